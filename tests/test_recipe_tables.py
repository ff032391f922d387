"""The tables of docs/recipes.md are what the results say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.scripts import ROOT, script


@pytest.fixture(scope="module")
def recipe_tables() -> Iterator[ModuleType]:
    yield from script("recipe_tables")


def saved(folder: Path, task: str, variant: str, seed: int, test: float, loss: float = 0.5) -> None:
    """Write the result of a run of two epochs."""
    history = [{"epoch": epoch, "score": epoch / 4, "loss": loss / epoch} for epoch in (1, 2)]
    run = {"task": task, "variant": variant, "recipe": {"seed": seed, "epochs": 2}, "history": history, "best_epoch": 2}
    run |= {"validation": {"score": 0.5}, "test": {"score": test}}
    (folder / f"{task}-{variant}-{seed}.json").write_text(json.dumps(run))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for task, base in (("grammar", 0.70), ("mood", 0.60)):
        for seed, noise in enumerate((0.0, 0.05)):
            saved(tmp_path, task, "adapters@1e-3", seed, base + noise)
            saved(tmp_path, task, "no-dropout@1e-3", seed, base + noise + 0.01 * (1 + seed))
    saved(tmp_path, "grammar", "full@1e-4", 1, 0.71)
    saved(tmp_path, "grammar", "full@1e-4", 2, 0.99)
    return tmp_path


def test_the_document_is_as_its_results_have_it(recipe_tables: ModuleType) -> None:
    text = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    assert recipe_tables.document(text, ROOT / "results" / "recipes") == text


def test_differences_are_paired_by_seed(recipe_tables: ModuleType, folder: Path) -> None:
    lines = recipe_tables.tables(folder)["grammar"]().splitlines()
    assert lines[2] == "| adapters@1e-3 | 2 | 50.0 | 72.5 ± 3.5 | – | – | 0.25 | 2.0 of 2 |"
    assert lines[3] == "| full@1e-4 | 2 | 50.0 | 85.0 ± 19.8 | -4.0 | – | 0.25 | 2.0 of 2 |", "seed 2 has no pair"
    assert lines[4].startswith("| no-dropout@1e-3 | 2 | 50.0 | 74.0 ± 4.2 | +1.5 | -4.9 to +7.9 |")


def test_over_tasks_every_pair_of_runs_counts(recipe_tables: ModuleType, folder: Path) -> None:
    lines = recipe_tables.tables(folder)["all-tasks"]().splitlines()
    assert lines[2:] == ["| no-dropout@1e-3 | 2 | 4 | +1.5 | +0.6 to +2.4 | 2 of 2 |"], "full ran on one task only"


def test_curves_are_means_over_seeds(recipe_tables: ModuleType, tmp_path: Path) -> None:
    for seed, loss in enumerate((0.4, 0.6)):
        saved(tmp_path, "mood", "plain", seed, 0.8, loss)
    assert recipe_tables.tables(tmp_path)["curves-mood"]().splitlines()[-1] == (
        "| plain | 2 | 0.500, 0.250 | 25.0, 50.0 | 80.0 |"
    )
