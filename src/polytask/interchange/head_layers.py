"""Layers of a prediction head by the plain names that other libraries' heads can be told in."""

from __future__ import annotations

from collections.abc import Sequence

from polytask.architectures import HeadLayer

_ACTIVATIONS = {"gelu_tanh": "gelu_pytorch_tanh"}


def head_layers(names: Sequence[str]) -> tuple[HeadLayer, ...]:
    """The layers of these names: ``dense`` (with a bias), or an activation as methods name it."""
    return tuple(
        HeadLayer("dense", bias=True) if name == "dense" else HeadLayer(_ACTIVATIONS.get(name, name)) for name in names
    )


def layer_names(layers: Sequence[HeadLayer]) -> tuple[str, ...]:
    """The reverse; a layer that has no such name (a norm, a dense one without a bias) is told by what it is."""
    theirs: dict[str, str] = {"gelu_new": "gelu_tanh", **{name: ours for ours, name in _ACTIVATIONS.items()}}
    return tuple(
        "dense without bias" if layer.kind == "dense" and not layer.bias else theirs.get(layer.kind, layer.kind)
        for layer in layers
    )
