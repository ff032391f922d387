"""Low-rank updates of linears."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from polytask.counterparts import known_settings
from polytask.errors import RecipeError, UnknownName
from polytask.methods.delta import (
    FFN_GATE,
    LINEARS,
    AdditiveDelta,
    Delta,
    DeltaMethod,
    EmptyLinear,
    Place,
    affine,
    power_of_two,
)


class LowRank(AdditiveDelta):
    """``y + s · up(down(x))`` on a linear, without biases: ``R (I + O)`` parameters."""

    def __init__(self, width_in: int, width_out: int, rank: int, scale: float, dropout: float) -> None:
        super().__init__()
        self.down = EmptyLinear(width_in, rank, bias=False)
        self.up = EmptyLinear(rank, width_out, bias=False)
        self.scale, self.dropout = scale, dropout

    def change(self, h: Tensor) -> Tensor:
        """``s·(x A B)``."""
        return self.scale * affine(affine(h, self.down.weight), self.up.weight)

    def start(self, base: nn.Module, generator: torch.Generator) -> None:
        """Initialize to the identity: ``down`` as torch initializes a linear, ``up`` zero."""
        values = torch.empty(self.down.weight.shape)
        nn.init.kaiming_uniform_(values, a=math.sqrt(5), generator=generator)
        with torch.no_grad():
            self.down.weight.copy_(values)
        nn.init.zeros_(self.up.weight)

    @property
    def kind(self) -> tuple[object, ...]:
        """Formula, scale and dropout."""
        return (type(self), self.scale, self.dropout)

    def stack_shapes(self) -> dict[str, tuple[int, ...]]:
        """The rank padded to a power of two."""
        rank, width_in = self.down.weight.shape
        return {
            "down.weight": (power_of_two(rank), width_in),
            "up.weight": (self.up.weight.shape[0], power_of_two(rank)),
        }


@known_settings
@dataclass(frozen=True)
class LoRA(DeltaMethod):
    """LoRA, arXiv:2106.09685: a low-rank update of linears, ``alpha / rank`` times ``x A B``.

    Args:
        rank: the rank of the update.
        alpha: the scale of the update, before it is divided by ``rank``.
        dropout: the dropout rate on the update's input.
        linears: the sites to update, of ``LINEARS``. ``ffn_up`` of a gated feed-forward sub-layer includes its gate;
            where both are one projection, it gets one update.
        layers: see ``DeltaMethod``.
    """

    name: ClassVar = "lora"
    sites: ClassVar = (*LINEARS, FFN_GATE)

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    linears: tuple[str, ...] = ("query", "value")

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.linears, str):
            raise RecipeError(f"linears={self.linears!r} is one name. Give a tuple of names: ({self.linears!r},)")
        object.__setattr__(self, "linears", tuple(self.linears))
        for linear in self.linears:
            if linear not in LINEARS:
                raise UnknownName("linear", linear, LINEARS)
        if not self.linears or type(self.rank) is not int or self.rank < 1 or not 0 <= self.dropout < 1:
            raise RecipeError(f"{self}: give at least one linear, a rank from 1 and a dropout in [0, 1)")

    def acts_at(self, place: Place, num_layers: int) -> bool:
        """At the chosen linears."""
        named = "ffn_up" if place.site == FFN_GATE else place.site
        return named in self.linears and super().acts_at(place, num_layers)

    def delta(self, place: Place) -> Delta:
        """A low-rank update."""
        return LowRank(place.width_in, place.width_out, self.rank, self.alpha / self.rank, self.dropout)


@torch.no_grad()
def merged(base: nn.Linear, delta: LowRank, rows: Sequence[int] | None = None) -> nn.Linear:
    """A new linear equal to ``base`` with ``delta``; neither argument changes.

    Args:
        base: the frozen linear.
        delta: its update.
        rows: the rows of the weight to update, if ``base`` is a fused projection (default: all).
    """
    out = copy.deepcopy(base)
    update = (delta.scale * delta.up.weight @ delta.down.weight).to(out.weight.dtype)
    if rows is None:
        out.weight += update
    else:
        out.weight[list(rows)] += update
    return out
