"""Layers between the pooled text and a head's output layer, as classifiers of transformers and adapter-hub have them.

They belong to the adapter: its header lists their names, and its tensors ``head.<n>.<parameter>`` fill the n-th. An
adapter without any has the output layer alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from polytask.errors import AdapterError
from polytask.tasks.task import Kind

MOST_LAYERS = 16
LAYERS: dict[str, Callable[[int], nn.Module]] = {
    "dense": lambda hidden: nn.Linear(hidden, hidden),
    "tanh": lambda hidden: nn.Tanh(),
    "relu": lambda hidden: nn.ReLU(),
    "gelu": lambda hidden: nn.GELU(),
    "gelu_tanh": lambda hidden: nn.GELU(approximate="tanh"),
    "silu": lambda hidden: nn.SiLU(),
}
"""Each layer by its name, for pooled texts ``[B, hidden]``."""


def layers_named(names: Sequence[str], hidden: int) -> list[nn.Module]:
    """The layers of these names, one after the other, ``[B, hidden]`` to ``[B, hidden]``."""
    return [LAYERS[name](hidden) for name in names]


def checked_layers(names: Sequence[object], kind: Kind) -> tuple[str, ...]:
    """The names, if they are of layers that a head of this kind can have.

    Raises:
        AdapterError: there are none or too many, one is not known, or the head reads tokens.
    """
    if kind == "span":
        raise AdapterError("a span head reads tokens: it has no prediction head")
    if not 0 < len(names) <= MOST_LAYERS:
        raise AdapterError(f"a prediction head has 1 to {MOST_LAYERS} layers; {len(names)} are named")
    for name in names:
        if not isinstance(name, str) or name not in LAYERS:
            raise AdapterError(f"{name!r:.60} is no layer of a prediction head; there are: {', '.join(LAYERS)}")
    return tuple(map(str, names))
