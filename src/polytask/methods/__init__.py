"""What a task may add to a frozen transformer. The mathematics: torch only, never transformers.

A new method is one small frozen dataclass and one row of ``METHODS``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from polytask.errors import RecipeError, UnknownName
from polytask.methods.bottleneck import Houlsby, Parallel, Pfeiffer
from polytask.methods.delta import Delta, DeltaMethod, Method, Place, Replacement
from polytask.methods.finetune import FullFineTuning, TopLayers
from polytask.methods.lora import LoRA
from polytask.methods.scaling import IA3, BitFit, LayerNormOnly

METHODS: dict[str, type[Method]] = {
    method.name: method
    for method in (Houlsby, Pfeiffer, Parallel, LoRA, IA3, BitFit, LayerNormOnly, FullFineTuning, TopLayers)
}


def method_named(name: str, settings: Mapping[str, Any]) -> Method:
    """The method of this name with these settings (all of them); the inverse of ``described``."""
    if name not in METHODS:
        raise UnknownName("method", name, METHODS)
    return METHODS[name].from_settings(settings)


def described(method: Method) -> dict[str, Any]:
    """``{"name": …, settings}`` as it stands in adapter headers and recipes."""
    return {"name": method.name, **method.settings()}


def method_described(description: Mapping[str, Any]) -> Method:
    """The inverse of ``described``."""
    if not isinstance(description, Mapping) or not isinstance(description.get("name"), str):
        raise RecipeError(f"a method is described by its name and settings, not by {description!r:.200}")
    return method_named(description["name"], {k: v for k, v in description.items() if k != "name"})


__all__ = [
    "IA3",
    "METHODS",
    "BitFit",
    "Delta",
    "DeltaMethod",
    "FullFineTuning",
    "Houlsby",
    "LayerNormOnly",
    "LoRA",
    "Method",
    "Parallel",
    "Pfeiffer",
    "Place",
    "Replacement",
    "TopLayers",
    "described",
    "method_described",
    "method_named",
]
