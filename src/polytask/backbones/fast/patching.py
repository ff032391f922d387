"""Which architecture has which fast layer, and how its layers get it."""

from __future__ import annotations

from typing import Any

from torch import nn

from polytask.architectures import Architecture
from polytask.backbones.fast.gated import GatedLayer
from polytask.backbones.fast.layer import FastLayer
from polytask.backbones.fast.post_norm import PostNormLayer

GELUS = {"gelu": "none", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}
ACTIVATIONS = ("hidden_act", "hidden_activation", "activation")
"""The configuration field of the activation of feed-forward sub-layers, by architecture."""
FAST: dict[str, type[FastLayer]] = {"post-norm": PostNormLayer, "gated": GatedLayer}
"""The fast layers by their name in ``Architecture.packs``."""


def use_fast_layers(model: nn.Module, architecture: Architecture) -> None:
    """Give the layers of a model a fast ``forward`` beside their own, if the architecture has one."""
    config: Any = model.config
    kind = FAST.get(architecture.packs or "")
    activation = next((getattr(config, name) for name in ACTIVATIONS if hasattr(config, name)), None)
    if kind is None or activation not in GELUS or not kind.supports(config):
        return
    for number, layer in enumerate(model.get_submodule(architecture.layers).children()):
        layer.forward = kind(model, architecture, number, layer, GELUS[activation]).forward
