"""Grids of recipes: makes them, finds the settings that vary, and names recipes by those."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from itertools import product
from typing import Any

from polytask.errors import RecipeError
from polytask.methods import Method
from polytask.training.recipe import Recipe

SIZES = ("size", "rank")
SEED = "seed"


def grid(
    base: Recipe,
    *,
    lr: Sequence[float] = (),
    size: Sequence[int] = (),
    epochs: Sequence[int] = (),
    seeds: int = 3,
) -> list[Recipe]:
    """Every combination of these values.

    Args:
        base: gives all settings that are not varied.
        lr: learning rates.
        size: values of the method's ``size`` or ``rank``.
        epochs: numbers of epochs.
        seeds: how many seeds to use for each combination, counting up from the seed of ``base``.

    Raises:
        RecipeError: the method has no size, or a value is out of range.
    """
    if type(seeds) is not int or seeds < 1:
        raise RecipeError(f"seeds={seeds!r} is out of range. Give a whole number from 1")
    methods = [with_size(base.method, number) for number in size] or [base.method]
    rates, epoch_counts = tuple(lr) or (base.lr,), tuple(epochs) or (base.epochs,)
    return [
        replace(base, method=method, lr=rate, epochs=number, seed=base.seed + seed)
        for method, rate, number, seed in product(methods, rates, epoch_counts, range(seeds))
    ]


def size_of(method: Method) -> int | None:
    """The method's ``size`` or ``rank``; None if it has neither."""
    name = _size_name(method)
    return None if name is None else int(getattr(method, name))


def with_size(method: Method, size: int) -> Method:
    """The same method with another ``size`` or ``rank``.

    Raises:
        RecipeError: the method has neither.
    """
    name = _size_name(method)
    if name is None:
        raise RecipeError(f"the method {method.name!r} has no size to vary. Vary its learning rate or epochs instead")
    return replace(method, **{name: size})  # type: ignore[type-var]


def _size_name(method: Method) -> str | None:
    return next((field.name for field in fields(method) if field.name in SIZES), None)  # type: ignore[arg-type]


def varying(recipes: Sequence[Recipe]) -> list[str]:
    """The names of the settings that differ between these recipes, without the seed."""
    settings = [recipe.settings() for recipe in recipes]
    names = dict.fromkeys(name for own in settings for name in own)
    return [name for name in names if name != SEED and any(own.get(name) != settings[0].get(name) for own in settings)]


def labelled(recipes: Sequence[Recipe]) -> dict[str, str]:
    """A label for each recipe, by its key, that names what varies: ``lr 1e-3, size 64, seed 2``."""
    names = varying(recipes)
    names += [SEED] if len({recipe.seed for recipe in recipes}) > 1 or not names else []
    every = [(recipe.key, recipe.settings()) for recipe in recipes]
    return {key: in_words({name: own[name] for name in names if name in own}) for key, own in every}


def in_words(values: Mapping[str, Any]) -> str:
    """Settings in words: ``lr 1e-3, size 64``."""
    return ", ".join(f"{name} {value_in_words(value)}" for name, value in values.items())


def value_in_words(value: Any) -> str:
    """A setting's value in words: ``1e-3`` for 0.001, ``0.1`` for 0.1."""
    if not isinstance(value, float):
        return str(value)
    if value and abs(value) < 0.1:
        mantissa, exponent = f"{value:e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:g}"
