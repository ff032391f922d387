"""Converts the layers of a prediction head to and from plain names, as other libraries' heads use."""

from __future__ import annotations

from collections.abc import Sequence

from polytask.architectures import HeadLayer

_ACTIVATIONS = {"gelu_tanh": "gelu_pytorch_tanh"}


def head_layers(names: Sequence[str]) -> tuple[HeadLayer, ...]:
    """Build layers from their names: ``dense`` (with a bias), or the name of an activation."""
    return tuple(
        HeadLayer("dense", bias=True) if name == "dense" else HeadLayer(_ACTIVATIONS.get(name, name)) for name in names
    )


def layer_names(layers: Sequence[HeadLayer]) -> tuple[str, ...]:
    """The inverse of ``head_layers``; other layers, such as a norm, get a name that no library's head has."""
    theirs: dict[str, str] = {"gelu_new": "gelu_tanh", **{name: ours for ours, name in _ACTIVATIONS.items()}}
    return tuple(
        "dense without bias" if layer.kind == "dense" and not layer.bias else theirs.get(layer.kind, layer.kind)
        for layer in layers
    )
