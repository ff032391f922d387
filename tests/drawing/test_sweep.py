"""A sweep's picture is drawn for any number of settings that vary, diverged ones too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from polytask.drawing.sweep import sweep_figure
from polytask.errors import PolytaskError, RecipeError
from polytask.methods import Houlsby, LayerNormOnly
from polytask.training.grid import grid
from polytask.training.recipe import Recipe
from polytask.training.sweep_result import Run, Sweep, by_setting
from tests.training.test_sweep import scored

BASE = Recipe(Houlsby(8), lr=1e-3, epochs=3)


def swept(recipes: list[Recipe], diverged: int = 0) -> Sweep:
    scores = [None] * diverged + [0.5 + number / 100 for number in range(len(recipes) - diverged)]
    runs: list[Run] = [scored(recipe, score) for recipe, score in zip(recipes, scores)]
    return Sweep("accuracy", by_setting(runs), None)


@pytest.mark.parametrize("diverged", [0, 1, 4])
@pytest.mark.parametrize(
    "recipes",
    [
        grid(BASE, lr=(1e-3, 3e-3, 1e-2), seeds=2),
        grid(BASE, lr=(1e-3, 3e-3, 1e-2), size=(8, 64), seeds=2),
        grid(BASE, lr=(1e-3, 3e-3), size=(8, 64), epochs=(3, 20), seeds=2),
        [*grid(BASE, lr=(1e-3, 3e-3, 1e-2), seeds=2), replace(BASE, method=LayerNormOnly())],
    ],
    ids=["one", "two", "three", "methods"],
)
def test_it_is_drawn(recipes: list[Recipe], diverged: int, tmp_path: Path) -> None:
    sweep_figure(swept(recipes, diverged), tmp_path / "sweep.png")
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")


def test_a_grid_that_is_not_full_is_drawn(tmp_path: Path) -> None:
    sweep_figure(swept(grid(BASE, lr=(1e-3, 3e-3), size=(8, 64), seeds=1)[:3]), tmp_path / "sweep.svg")
    assert b"<svg" in (tmp_path / "sweep.svg").read_bytes()


def test_where_there_is_nothing_to_draw_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="nothing but the seed varies"):
        sweep_figure(swept(grid(BASE, seeds=3)), tmp_path / "sweep.png")
    with pytest.raises(RecipeError, match="all runs of this sweep diverged"):
        sweep_figure(swept(grid(BASE, lr=(1e-3, 1e-2), seeds=1), 2), tmp_path / "sweep.png")
    with pytest.raises(PolytaskError, match=r"sweep\.gif"):
        sweep_figure(swept(grid(BASE, lr=(1e-3, 1e-2), seeds=1)), tmp_path / "sweep.gif")
    assert not list(tmp_path.iterdir())
