"""Files written in November 2026 are still read, with the same digests.

``november_2026/adapter.safetensors`` was made by ``tests.samples.created(Houlsby(size=3))`` before format 2.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from polytask.adapters.adapter import Adapter
from polytask.errors import RecipeError
from polytask.methods import Houlsby
from polytask.serialization import ADDED
from polytask.training.recipe import Recipe
from tests.samples import created, same

FOLDER = Path(__file__).parents[1] / "november_2026"


@dataclass(frozen=True)
class NewerRecipe(Recipe):
    """A recipe with a setting that was added later."""

    averaging: float = field(default=0.0, metadata=ADDED)


def test_an_adapter_of_format_1_keeps_its_digest_and_every_byte() -> None:
    file = FOLDER / "adapter.safetensors"
    adapter = Adapter.load(file)
    assert adapter.header.to_object()["format"] == 1
    assert adapter.header.takes is None
    assert adapter.header.digest == "3e4fcd792dca9e52bb741dd1ce9ca2198429c355ed43f45e95258fb5fd37a035"
    assert adapter.to_bytes() == file.read_bytes()
    assert same(adapter, created(Houlsby(size=3)))


def test_a_new_setting_at_its_default_changes_no_old_recipe() -> None:
    assert NewerRecipe().to_json() == Recipe().to_json()
    assert NewerRecipe().key == Recipe().key
    assert NewerRecipe.from_json(Recipe(lr=1e-3).to_json()) == NewerRecipe(lr=1e-3)


def test_a_new_setting_with_another_value_is_written_and_read() -> None:
    recipe = NewerRecipe(averaging=0.9)
    assert recipe.to_json()["averaging"] == 0.9
    assert recipe.key != Recipe().key
    assert NewerRecipe.from_json(recipe.to_json()) == recipe
    with pytest.raises(RecipeError, match="averaging"):
        Recipe.from_json(recipe.to_json())
