"""Runs a part of a model's forward pass: from a layer whose input is known, or up to a layer.

The model's own code runs, with its masks, positions and final norm; only the layers outside the range are skipped. So
nothing about an architecture needs to be known except where its layers are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from polytask.architectures import Architecture


@dataclass(frozen=True)
class PartialPass:
    """A range of layers to run.

    Attributes:
        start: the first layer to run.
        stop: the layer to stop before; None to run to the end of the model.
        states: the input of layer ``start``, ``[B, T, D]``; None to start at the embeddings.
    """

    start: int = 0
    stop: int | None = None
    states: Tensor | None = None


class StopForward(Exception):
    """Ends a forward pass at its ``stop``, with the hidden states there; not an error."""

    def __init__(self, states: Tensor) -> None:
        self.states = states


WHOLE = PartialPass()
_CURRENT: ContextVar[PartialPass] = ContextVar("polytask_partial_pass", default=WHOLE)


class LayerWrapper:
    """Replaces the ``forward`` of a layer so that a partial pass can start or stop there."""

    def __init__(self, layer: nn.Module, number: int, depth: int, returns_tuple: bool) -> None:
        self.own_forward = layer.forward
        self.number, self.depth, self.returns_tuple = number, depth, returns_tuple

    def forward(self, hidden: Tensor, *args: Any, **named: Any) -> Any:
        """The layer's output, or the known states if the layer is below the range."""
        current = _CURRENT.get()
        if current.stop == self.number:
            raise StopForward(hidden)
        if self.number < current.start:
            return (current.states, None) if self.returns_tuple else current.states
        enters = current.states is not None and self.number == current.start
        out = self.own_forward(current.states if enters else hidden, *args, **named)
        if current.stop == self.depth == self.number + 1:
            raise StopForward(out[0] if self.returns_tuple else out)
        return out


def wrap_layers(model: nn.Module, architecture: Architecture) -> None:
    """Let partial passes start and stop at each layer of a model."""
    layers: list[Any] = list(model.get_submodule(architecture.layers).children())
    for number, layer in enumerate(layers):
        layer.forward = LayerWrapper(layer, number, len(layers), architecture.returns_tuple).forward


@contextmanager
def _running(current: PartialPass) -> Iterator[None]:
    token = _CURRENT.set(current)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def run_partially(model: nn.Module, current: PartialPass, **inputs: Any) -> Tensor:
    """The hidden states ``[B, T, D]`` at the end of a partial pass; ``inputs`` are those of the model."""
    with _running(current):
        try:
            out: Tensor = model(**inputs).last_hidden_state
        except StopForward as stop:
            return stop.states
    return out
