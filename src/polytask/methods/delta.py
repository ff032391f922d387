"""The seam between a frozen transformer and what a task adds to it.

Unusual here: a delta's formula is written once and runs for one adapter and for many. Its parameters may
carry a leading dimension, one set of weights for each row of the batch (or each group of rows), and
``affine`` and ``per_row`` do the right thing with either. So the grouped path cannot drift from the
looped one: they are the same lines.

Shapes: ``B`` rows, ``T`` tokens, ``D`` hidden, ``R`` bottleneck, ``I`` and ``O`` a linear's widths.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polytask.errors import RecipeError
from polytask.serialization import checked, to_json

EMBED_NORM, FINAL_NORM = "embed_norm", "final_norm"
RESIDUALS = ("attn_out", "ffn_out")
NORMS = (EMBED_NORM, "attn_norm", "attn_post_norm", "ffn_norm", "ffn_post_norm", FINAL_NORM)
LINEARS = ("query", "key", "value", "attn_dense", "ffn_up", "ffn_down")
FFN_GATE = "ffn_gate"
"""The gate of a gated feed-forward part where it is a linear of its own; it goes with ``ffn_up``."""
SITES = (*NORMS, *RESIDUALS, *LINEARS, FFN_GATE, "ffn_mid")

Layers = int | tuple[int, ...] | None
Norm = Literal["layer", "gain", "rms", "rms_plus_one"]
"""How a norm computes: LayerNorm with gain and bias, LayerNorm with a gain, RMSNorm, RMSNorm times ``1 + weight``."""
M = TypeVar("M", bound="Method")


@dataclass(frozen=True)
class Place:
    """A site of one layer: ``layer`` is None for what stands once per backbone (``embed_norm``, ``final_norm``).

    Attributes:
        width_in, width_out: the last dimension of what goes in, and of what comes out.
        has_bias: whether the frozen part adds a bias.
        norm, eps: how a norm computes, and what it adds to the variance.
        is_pre_norm: whether norms of the backbone stand before the sub-layers.
    """

    site: str
    layer: int | None
    width_in: int
    width_out: int
    has_bias: bool = True
    norm: Norm = "layer"
    eps: float = 1e-12
    is_pre_norm: bool = False

    @property
    def name(self) -> str:
        """As in adapter files: ``layer.3.attn_out``, ``embed_norm``."""
        return self.site if self.layer is None else f"layer.{self.layer}.{self.site}"


class Delta(nn.Module, ABC):
    """The trainable module that one task adds at one site.

    ``dropout`` is the rate at which numbers of ``x`` are dropped in training before the delta sees them.
    """

    dropout: float = 0.0
    loops: ClassVar[bool] = False
    """Whether, in training, one adapter after another is faster than a stack: where torch has a kernel for one only."""
    reads_output: ClassVar[bool] = True
    """Whether the formula has ``y`` in it; where it has not, what the frozen part puts out need not be computed."""
    reads_input: ClassVar[bool] = True
    """Whether the formula has ``x`` in it."""

    @abstractmethod
    def forward(self, x: Tensor, y: Tensor, base: nn.Module) -> Tensor:
        """What comes out of the site instead of ``y``.

        Args:
            x: what went into the frozen part, ``[B, T, width_in]``; how tokens are parted into ``B`` and ``T`` says
                nothing about texts, each token is for itself.
            y: what came out of it, ``[B, T, width_out]``.
            base: the frozen part itself.

        Returns:
            The new output, of the shape and type of ``y``.
        """

    @abstractmethod
    def start(self, base: nn.Module, generator: torch.Generator) -> None:
        """Fill the parameters so that the untrained delta changes nothing, or next to nothing."""

    @property
    def kind(self) -> tuple[object, ...]:
        """What two deltas must share to be stacked: their formula and its settings, but no size."""
        return (type(self),)

    def stack_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape to which each parameter is padded with zeros in a stack; the same answers."""
        return {name: tuple(p.shape) for name, p in self.named_parameters()}

    @cached_property
    def stack_key(self) -> int:
        """Deltas with equal keys can be stacked."""
        return _STACK_KEYS.setdefault((self.kind, tuple(self.stack_shapes().items())), len(_STACK_KEYS))

    @cached_property
    def _first(self) -> nn.Parameter:
        return next(self.parameters())

    @property
    def is_trained(self) -> bool:
        """Whether its parameters ask for gradients; all of an adapter's do or none does."""
        return self._first.requires_grad


_STACK_KEYS: dict[object, int] = {}


class Method(ABC):
    """What a task may change in a frozen transformer: a frozen dataclass named as in its paper."""

    name: ClassVar[str]

    def settings(self) -> dict[str, Any]:
        """The fields as JSON values; later fields (``polytask.serialization``) only where not at the default."""
        return to_json(self)

    @classmethod
    def from_settings(cls: type[M], settings: Mapping[str, Any]) -> M:
        """The inverse of ``settings``; unknown or missing settings are refused."""
        given = checked(cls, settings, f"the method {cls.name!r}", RecipeError)
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in given.items()})


@dataclass(frozen=True)
class DeltaMethod(Method):
    """A method that adds a delta at some sites of some layers and leaves the rest as it is.

    ``layers``: None for all, a number for so many from the top, or the layers' numbers from 0. When only
    some layers are meant, what stands in none (``embed_norm``, ``final_norm``) stays frozen.
    """

    sites: ClassVar[tuple[str, ...]]
    trains: ClassVar[str] = "places"
    """What it trains, for the message where a backbone has none of it."""

    layers: Layers = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if isinstance(self.layers, list | range):
            object.__setattr__(self, "layers", tuple(self.layers))
        numbers = self.layers if isinstance(self.layers, tuple) else (1 if self.layers is None else self.layers,)
        is_right = all(type(number) is int for number in numbers) and 0 < len(numbers) == len(set(numbers))
        if not is_right or min(numbers) < 0 or self.layers == 0:
            raise RecipeError(f"layers={self.layers!r}: give a count from the top or distinct layer numbers from 0")

    def chosen_layers(self, num_layers: int) -> tuple[int, ...]:
        """The layers meant in a backbone of ``num_layers``."""
        if self.layers is None:
            return tuple(range(num_layers))
        if isinstance(self.layers, int):
            chosen: tuple[int, ...] = tuple(range(num_layers - self.layers, num_layers))
        else:
            chosen = tuple(sorted(self.layers))
        if chosen[0] < 0 or chosen[-1] >= num_layers:
            raise RecipeError(f"layers={self.layers!r} do not all exist: the backbone has layers 0 to {num_layers - 1}")
        return chosen

    def acts_at(self, place: Place, num_layers: int) -> bool:
        """Whether this method adds a delta at ``place``."""
        if place.site not in self.sites:
            return False
        return self.layers is None if place.layer is None else place.layer in self.chosen_layers(num_layers)

    @abstractmethod
    def delta(self, place: Place) -> Delta:
        """A delta for ``place``, its parameters not yet filled."""


@dataclass(frozen=True)
class Replacement(Method):
    """A method that trains private copies of the backbone's own parameters: full and top-n fine-tuning.

    Not a delta: such an adapter runs as its own forward pass and is refused in mixed routes.
    """

    @abstractmethod
    def replaces(self, parameter: str, layer: int | None, num_layers: int) -> bool:
        """Whether the backbone's ``parameter`` is trained.

        ``layer`` is its layer's number, None for embeddings and pooler, ``num_layers`` for a norm behind all layers.
        """


def affine(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x @ weight^T + bias`` in the type of ``x``.

    Args:
        x: ``[B, T, I]``.
        weight: ``[O, I]``, or ``[B, O, I]``: one for each row.
        bias: ``[O]``, or ``[B, O]``.
    """
    weight = weight.to(x.dtype)
    bias = None if bias is None else bias.to(x.dtype)
    if weight.dim() == 2:
        return F.linear(x, weight, bias)
    if bias is None:
        return torch.bmm(x, weight.mT)
    return torch.baddbmm(bias[:, None, :], x, weight.mT)


def per_row(vector: Tensor) -> Tensor:
    """``[O]`` as it is, ``[B, O]`` as ``[B, 1, O]``: ready to meet ``[B, T, O]``."""
    return vector if vector.dim() == 1 else vector[:, None, :]


def power_of_two(size: int) -> int:
    """The least power of two that is not below ``size``."""
    return 1 << (size - 1).bit_length()


def truncated_normal_(weight: Tensor, std: float, generator: torch.Generator) -> None:
    """Fill with a normal distribution of ``std`` before it is cut at two of them, as in the paper.

    Drawn in fp32 on the CPU, whatever the type or device, so that equal generators give equal weights.
    """
    values = torch.empty(weight.shape)
    nn.init.trunc_normal_(values, generator=generator)
    with torch.no_grad():
        weight.copy_(values.mul_(std))
