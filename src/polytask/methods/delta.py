"""The interface between a frozen transformer and what a task adds to it: places, deltas and methods.

A delta's formula is written once and runs for one adapter and for many. Its parameters may have a leading dimension,
one set of weights for each row of the batch (or each group of rows); ``affine`` and ``per_row`` handle both. So grouped
and looped application are the same lines of code.

Shapes: ``B`` rows, ``T`` tokens, ``D`` hidden, ``R`` bottleneck, ``I`` and ``O`` a linear's input and output widths.
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
"""The gate of a gated feed-forward sub-layer, if it is a linear of its own; methods treat it like ``ffn_up``."""
SITES = (*NORMS, *RESIDUALS, *LINEARS, FFN_GATE, "ffn_mid")

Layers = int | tuple[int, ...] | None
Norm = Literal["layer", "gain", "rms", "rms_plus_one"]
"""Kinds of norms: LayerNorm with gain and bias, LayerNorm with a gain only, RMSNorm, RMSNorm with ``1 + weight``."""
M = TypeVar("M", bound="Method")


@dataclass(frozen=True)
class Place:
    """A site of one layer.

    Attributes:
        site: the name of the site.
        layer: the number of the layer; None for sites that exist once (``embed_norm``, ``final_norm``).
        width_in, width_out: the last dimension of input and output.
        has_bias: whether the frozen part has a bias.
        norm, eps: for norms, the kind and what is added to the variance.
        is_pre_norm: whether the backbone's norms come before the sub-layers.
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
    """The trainable module that one task adds at one site."""

    dropout: float = 0.0
    """The dropout rate on ``x`` in training."""
    prefers_loop: ClassVar[bool] = False
    """Whether several adapters train faster one after another than stacked: torch has a kernel for one only."""
    reads_output: ClassVar[bool] = True
    """Whether the formula uses ``y``; if not, the frozen part's output need not be computed."""
    reads_input: ClassVar[bool] = True
    """Whether the formula uses ``x``."""

    @abstractmethod
    def forward(self, x: Tensor, y: Tensor, base: nn.Module) -> Tensor:
        """The output of the site, in place of ``y``.

        Args:
            x: the input of the frozen part, ``[B, T, width_in]``. The formula must treat each token by itself: the
                rows need not be texts.
            y: the output of the frozen part, ``[B, T, width_out]``.
            base: the frozen part.

        Returns:
            The new output, of the shape and type of ``y``.
        """

    @abstractmethod
    def start(self, base: nn.Module, generator: torch.Generator) -> None:
        """Initialize the parameters so that the untrained delta changes nothing, or almost nothing.

        Args:
            base: the frozen part.
            generator: the source of random numbers, on the CPU.
        """

    @property
    def kind(self) -> tuple[object, ...]:
        """What two deltas must share to be stacked: the formula and its settings, without sizes."""
        return (type(self),)

    def stack_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape to which each parameter is padded with zeros in a stack; padding must not change the output."""
        return {name: tuple(p.shape) for name, p in self.named_parameters()}

    @cached_property
    def stack_key(self) -> int:
        """A number that is equal for deltas that can be stacked."""
        return _STACK_KEYS.setdefault((self.kind, tuple(self.stack_shapes().items())), len(_STACK_KEYS))

    @cached_property
    def _first(self) -> nn.Parameter:
        return next(self.parameters())

    @property
    def is_trained(self) -> bool:
        """Whether its parameters require gradients; either all parameters of an adapter do or none."""
        return self._first.requires_grad


class AdditiveDelta(Delta):
    """A delta whose formula is a sum: ``y`` and a change that is computed from ``x``, or from ``y`` alone."""

    @abstractmethod
    def change(self, h: Tensor) -> Tensor:
        """What is added to ``y``: from ``x``, ``[B, T, width_in]``, or from ``y`` unless ``reads_input``."""

    def forward(self, x: Tensor, y: Tensor, base: nn.Module) -> Tensor:
        """``y + change``."""
        return y + self.change(x if self.reads_input else y)


_STACK_KEYS: dict[object, int] = {}


class Method(ABC):
    """What a task trains on a frozen transformer: a frozen dataclass named as in its paper."""

    name: ClassVar[str]

    def fitted(self, is_pre_norm: bool) -> Method:
        """The same method with settings that are None chosen for a new adapter.

        Args:
            is_pre_norm: whether the backbone's norms come before the sub-layers.
        """
        return self

    def explicit(self) -> Method:
        """The same method with each None that stands for a choice replaced by that choice, for comparisons."""
        return self

    def settings(self) -> dict[str, Any]:
        """The fields as JSON values; added fields (``polytask.serialization``) only if not at their default."""
        return to_json(self)

    @classmethod
    def from_settings(cls: type[M], settings: Mapping[str, Any]) -> M:
        """The inverse of ``settings``.

        Raises:
            RecipeError: a setting is unknown, missing or out of range.
        """
        given = checked(cls, settings, f"the method {cls.name!r}", RecipeError)
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in given.items()})


@dataclass(frozen=True)
class DeltaMethod(Method):
    """A method that adds a delta at some sites of some layers and leaves the rest unchanged.

    Args:
        layers: None for all layers, a number for that many from the top, or layer numbers from 0. With a selection of
            layers, ``embed_norm`` and ``final_norm`` stay frozen.
    """

    sites: ClassVar[tuple[str, ...]]
    trains: ClassVar[str] = "places"
    """What it trains, for the error message if a backbone has none of it."""

    layers: Layers = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if isinstance(self.layers, list | range):
            object.__setattr__(self, "layers", tuple(self.layers))
        numbers = self.layers if isinstance(self.layers, tuple) else (1 if self.layers is None else self.layers,)
        is_right = all(type(number) is int for number in numbers) and 0 < len(numbers) == len(set(numbers))
        if not is_right or min(numbers) < 0 or self.layers == 0:
            raise RecipeError(f"layers={self.layers!r}: give a count from the top or distinct layer numbers from 0")

    def chosen_layers(self, num_layers: int) -> tuple[int, ...]:
        """The numbers of the selected layers in a backbone of ``num_layers``.

        Raises:
            RecipeError: a layer does not exist.
        """
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
        """A new delta for ``place``, with uninitialized parameters."""


@dataclass(frozen=True)
class Replacement(Method):
    """A method that trains private copies of the backbone's parameters: full and top-n fine-tuning.

    Such an adapter has no deltas. It runs in a forward pass of its own and cannot share a batch with other adapters.
    """

    @abstractmethod
    def replaces(self, parameter: str, layer: int | None, num_layers: int) -> bool:
        """Whether a parameter of the backbone is trained.

        Args:
            parameter: its name.
            layer: the number of its layer; None for embeddings and pooler, ``num_layers`` for the final norm.
            num_layers: the number of layers of the backbone.
        """


def affine(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x @ weight^T + bias``, computed in the type of ``x``.

    Args:
        x: ``[B, T, I]``.
        weight: ``[O, I]``, or ``[B, O, I]`` with one weight for each row.
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
    """A vector that broadcasts over ``[B, T, O]``: ``[O]`` unchanged, ``[B, O]`` as ``[B, 1, O]``."""
    return vector if vector.dim() == 1 else vector[:, None, :]


def power_of_two(size: int) -> int:
    """The smallest power of two that is at least ``size``."""
    return 1 << (size - 1).bit_length()


class EmptyLinear(nn.Linear):
    """A linear layer that ``Delta.start`` or a file fills; making it draws no random numbers."""

    def reset_parameters(self) -> None:
        """Leave the memory as it comes."""


def truncated_normal_(weight: Tensor, std: float, generator: torch.Generator) -> None:
    """Fill ``weight`` from a normal distribution with ``std``, truncated at two standard deviations, as in the paper.

    The values are drawn in fp32 on the CPU, whatever the type and device, so equal generators give equal weights.
    """
    values = torch.empty(weight.shape)
    nn.init.trunc_normal_(values, generator=generator)
    with torch.no_grad():
        weight.copy_(values.mul_(std))
