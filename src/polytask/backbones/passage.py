"""A part of a model's own forward pass: in at a layer with known states, out before another.

The model's code runs as it is, with its masks, its positions and what stands behind its layers; only layers are passed
by. So nothing has to be known of an architecture but where its layers are.
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
class Passage:
    """From layer ``start``, into which ``states`` go, to before layer ``stop``; None: to the end of the model."""

    start: int = 0
    stop: int | None = None
    states: Tensor | None = None


class Left(Exception):
    """The pass has come to where it stops; not an error."""

    def __init__(self, states: Tensor) -> None:
        self.states = states


WHOLE = Passage()
_PASSAGE: ContextVar[Passage] = ContextVar("polytask_passage", default=WHOLE)


class Gate:
    """A layer's ``forward`` that lets a passage in and out."""

    def __init__(self, layer: nn.Module, number: int, depth: int, returns_tuple: bool) -> None:
        self.own_forward = layer.forward
        self.number, self.depth, self.returns_tuple = number, depth, returns_tuple

    def forward(self, hidden: Tensor, *args: Any, **named: Any) -> Any:
        """What the layer makes of ``hidden``, or what enters above it."""
        passage = _PASSAGE.get()
        if passage.stop == self.number:
            raise Left(hidden)
        if self.number < passage.start:
            return (passage.states, None) if self.returns_tuple else passage.states
        enters = passage.states is not None and self.number == passage.start
        out = self.own_forward(passage.states if enters else hidden, *args, **named)
        if passage.stop == self.depth == self.number + 1:
            raise Left(out[0] if self.returns_tuple else out)
        return out


def add_gates(model: nn.Module, architecture: Architecture) -> None:
    """Let passages into and out of the layers of a model of our own."""
    layers: list[Any] = list(model.get_submodule(architecture.layers).children())
    for number, layer in enumerate(layers):
        layer.forward = Gate(layer, number, len(layers), architecture.returns_tuple).forward


@contextmanager
def _through(passage: Passage) -> Iterator[None]:
    token = _PASSAGE.set(passage)
    try:
        yield
    finally:
        _PASSAGE.reset(token)


def passed(model: nn.Module, passage: Passage, **inputs: Any) -> Tensor:
    """The hidden states ``[B, T, D]`` with which a passage through ``model`` ends."""
    with _through(passage):
        try:
            out: Tensor = model(**inputs).last_hidden_state
        except Left as left:
            return left.states
    return out
