"""The options that make a recipe: its name, and what replaces its settings."""

from __future__ import annotations

from dataclasses import replace

import pytest

from polytask.cli.option_groups import RECIPE_SETTINGS, RecipeOptions
from polytask.errors import UnknownName
from polytask.methods import Houlsby, Pfeiffer
from polytask.training.recipe import Recipe


def test_options_replace_the_settings_of_a_recipe_by_name() -> None:
    def recipe(**given: object) -> Recipe:
        return RecipeOptions(**given).recipe(seed=3, size=8)  # type: ignore[arg-type]

    assert recipe() == Recipe(Houlsby(8), seed=3)
    assert recipe(base="paper") == Recipe.paper(size=8, seed=3)
    assert recipe(base="paper", max_length=64, setting=["init_std=0.1"]) == replace(
        Recipe.paper(seed=3), method=Houlsby(8, activation="gelu_tanh", init_std=0.1), max_length=64
    )
    assert recipe(base="paper", method="pfeiffer") == replace(Recipe.paper(seed=3), method=Pfeiffer(8), lr=None)
    with pytest.raises(UnknownName, match="default, paper"):
        recipe(base="papers")


def test_every_option_of_a_setting_has_its_name() -> None:
    assert set(RECIPE_SETTINGS) <= vars(Recipe()).keys() & vars(RecipeOptions()).keys()
    assert all(getattr(RecipeOptions(), name) is None for name in RECIPE_SETTINGS), "not given means the recipe's"
