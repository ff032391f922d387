"""The methods: what a task adds to a frozen transformer. Torch only, never transformers.

A new method is one small frozen dataclass and its name in ``METHODS``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from polytask.errors import RecipeError, UnknownName
from polytask.methods.bottleneck import Houlsby, Parallel, Pfeiffer
from polytask.methods.delta import Delta, DeltaMethod, Method, Place, Replacement
from polytask.methods.finetune import FullFineTuning, TopLayers
from polytask.methods.lora import LoRA
from polytask.methods.probe import Probe
from polytask.methods.scaling import IA3, BitFit, LayerNormOnly

METHODS: dict[str, type[Method]] = {
    method.name: method
    for method in (Houlsby, Pfeiffer, Parallel, LoRA, IA3, BitFit, LayerNormOnly, Probe, FullFineTuning, TopLayers)
}


def method_named(name: str, settings: Mapping[str, Any]) -> Method:
    """The method with this name and these settings, all of them required.

    Raises:
        UnknownName: there is no such method.
        RecipeError: a setting is unknown, missing or out of range.
    """
    if name not in METHODS:
        raise UnknownName("method", name, METHODS)
    return METHODS[name].from_settings(settings)


def described(method: Method) -> dict[str, Any]:
    """A method as JSON, ``{"name": …, settings}``, as in recipes and adapter headers."""
    return {"name": method.name, **method.settings()}


def method_described(description: Mapping[str, Any]) -> Method:
    """The method with this description; the inverse of ``described``.

    Raises:
        UnknownName: there is no such method.
        RecipeError: this is not a description of a method, or a setting is wrong.
    """
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
    "Probe",
    "Replacement",
    "TopLayers",
    "described",
    "method_described",
    "method_named",
]
