"""Checks before a training: the type of its arguments, its memory, the length of its texts, and unknown tokens."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from polytask.adapters.module import num_trained
from polytask.backbones.backbone import Backbone
from polytask.data.task import Task
from polytask.errors import PolytaskError, PolytaskWarning, RecipeError
from polytask.memory import free_bytes
from polytask.training.recipe import Recipe

COPIES = 5
"""Numbers held per trained parameter: itself, its gradient, Adam's two moments, and the best epoch's value."""
MAX_UNKNOWN = 0.1
"""The share of unknown training tokens above which a warning is given. English has under 0.005 with MiniLM."""
_MADE_BY: dict[type, str] = {
    Backbone: ". Load one: pt.load_backbone(name)",
    Task: '. Make one from a file, a table or lists: pt.read_task(data, "name", text="COLUMN", label="COLUMN")',
    Recipe: ". Make one: pt.Recipe(pt.Houlsby(64), lr=1e-3, epochs=5)",
}


def check_type(value: object, kind: type, error: type[PolytaskError]) -> None:
    """Refuse a value of another type, in one line that describes it and says how to make the right one.

    Raises:
        error: with the columns, if the value is a table.
    """
    if isinstance(value, kind):
        return
    names: Any = getattr(value, "columns", getattr(value, "column_names", None))
    has_names = isinstance(names, Iterable) and not isinstance(names, str | Mapping)
    shown = f"with the columns {', '.join(map(repr, names))}" if has_names else " ".join(repr(value).split())
    named = "" if shown.startswith(type(value).__name__) else f"{type(value).__name__} "
    raise error(f"{named}{shown:.120} is not a {kind.__name__}{_MADE_BY.get(kind, '')}")


def check_memory(backbone: Backbone, recipe: Recipe) -> None:
    """Refuse a method whose parameters and optimizer state do not fit into the free memory, before allocating them.

    Raises:
        RecipeError: with the memory that is needed and free.
    """
    method = recipe.method
    count, free = num_trained(backbone, method) * recipe.num_modules, free_bytes(backbone.device)
    needed = (COPIES + bool(recipe.ema)) * count * torch.promote_types(backbone.dtype, torch.float32).itemsize
    if needed > free:
        raise RecipeError(
            f"{method.name!r} would train {count:,} parameters, which takes {needed / 1e9:,.1f} GB of memory with the "
            f"optimizer's state, and {free / 1e9:,.1f} GB are free. Choose a smaller size or rank, or layers=2"
        )


def warn_if_too_long(max_length: int, backbone: Backbone) -> None:
    """Warn if a recipe asks for longer texts than the backbone reads, unless it is the default length."""
    if max_length > max(backbone.max_length, Recipe.max_length):
        warnings.warn(
            f"max_length={max_length} is more than {backbone.name} reads: "
            f"texts are cut at {backbone.max_length} tokens",
            PolytaskWarning,
            stacklevel=4,
        )


def warn_of_unknown_tokens(ids: Sequence[Sequence[int]], tokenizer: Any) -> None:
    """Warn if many tokens of the training texts are not in the tokenizer's vocabulary."""
    unknown = tokenizer.unk_token_id
    total = sum(map(len, ids))
    count = 0 if unknown is None else sum(list(text).count(unknown) for text in ids)
    if count > MAX_UNKNOWN * total:
        warnings.warn(
            f"{count / total:.0%} of the tokens of the training texts are unknown to the backbone's tokenizer. Are "
            "they in a language, script or case that it was not trained on?",
            PolytaskWarning,
            stacklevel=4,
        )
