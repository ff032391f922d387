"""Bottleneck adapters: a projection down, a non-linearity, a projection up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polytask.counterparts import known_settings
from polytask.errors import RecipeError, UnknownName
from polytask.methods.delta import (
    NORMS,
    AdditiveDelta,
    Delta,
    DeltaMethod,
    EmptyLinear,
    Place,
    affine,
    power_of_two,
    truncated_normal_,
)
from polytask.methods.scaling import tuned_norm
from polytask.serialization import ADDED

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
    "tanh": torch.tanh,
}
GELUS = {"gelu": "none", "gelu_tanh": "tanh"}


class Bottleneck(Delta):
    """``f(h) = up(activation(down(h)))`` with biases: ``2RD + D + R`` parameters."""

    def __init__(self, width_in: int, width_out: int, size: int, activation: str, init_std: float) -> None:
        super().__init__()
        self.down = EmptyLinear(width_in, size)
        self.up = EmptyLinear(size, width_out)
        self.activation, self.init_std = activation, init_std

    def bottleneck(self, h: Tensor) -> Tensor:
        """``f(h)``, ``[B, T, width_in]`` to ``[B, T, width_out]``."""
        h_BTR = ACTIVATIONS[self.activation](affine(h, self.down.weight, self.down.bias))
        return affine(h_BTR, self.up.weight, self.up.bias)

    def start(self, base: nn.Module, generator: torch.Generator) -> None:
        """Initialize near the identity: small weights, zero biases."""
        for linear in (self.down, self.up):
            truncated_normal_(linear.weight, self.init_std, generator)
            nn.init.zeros_(linear.bias)

    @property
    def kind(self) -> tuple[object, ...]:
        """Formula and activation."""
        return (type(self), self.activation)

    def stack_shapes(self) -> dict[str, tuple[int, ...]]:
        """The size padded to a power of two: zero rows of ``down`` and zero columns of ``up``."""
        size, width_in = self.down.weight.shape
        padded, width_out = power_of_two(size), self.up.weight.shape[0]
        shapes = {"down.weight": (padded, width_in), "down.bias": (padded,)}
        return {**shapes, "up.weight": (width_out, padded), "up.bias": (width_out,)}


class SerialBottleneck(Bottleneck, AdditiveDelta):
    """A bottleneck after a sub-layer, before the residual sum."""

    reads_input = False

    def change(self, h: Tensor) -> Tensor:
        """``f(y)``."""
        return self.bottleneck(h)

    def forward(self, x: Tensor, y: Tensor, base: nn.Module) -> Tensor:
        """``y + f(y)``."""
        is_single = self.down.weight.dim() == 2 and self.down.weight.requires_grad
        if is_single and self.activation in GELUS and y.device.type == "cpu":
            weights = (self.down.weight, self.down.bias, self.up.weight, self.up.bias)
            out: Tensor = FusedSerialBottleneck.apply(y, *weights, GELUS[self.activation])  # type: ignore[no-untyped-call]
            return out
        return self.change(y).add_(y)


class PreNormBottleneck(SerialBottleneck):
    """A serial bottleneck that starts as the identity, for backbones whose norms come before the sub-layers.

    No norm follows a branch there, and single features of its output can be thousands of times larger than the
    others (16,896 in Gemma 3 270M). Multiplied by small random weights they would still outweigh the others.
    """

    def start(self, base: nn.Module, generator: torch.Generator) -> None:
        """Initialize to the identity: small ``down``, zero ``up``."""
        super().start(base, generator)
        nn.init.zeros_(self.up.weight)


def serial_bottleneck(place: Place, method: BottleneckMethod) -> Delta:
    """A new bottleneck on the residual branch at ``place``."""
    kind = PreNormBottleneck if place.is_pre_norm else SerialBottleneck
    return kind(place.width_out, place.width_out, method.size, method.activation, method.init_std)


class FusedSerialBottleneck(torch.autograd.Function):
    """``y + up(gelu(down(y)))`` as one autograd node: fewer copies, and sums inside the matrix products."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, down: Tensor, down_bias: Tensor, up: Tensor, up_bias: Tensor, gelu: str) -> Tensor:
        """``[B, T, D]`` to ``[B, T, D]``; the weights as in ``Bottleneck``."""
        down, down_bias, up, up_bias = (p.to(y.dtype) for p in (down, down_bias, up, up_bias))
        y_ND = y.reshape(-1, y.shape[-1])
        h_NR = torch.addmm(down_bias, y_ND, down.t())
        a_NR = F.gelu(h_NR, approximate=gelu)
        ctx.save_for_backward(y_ND, h_NR, a_NR, down, up)
        ctx.gelu = gelu
        return torch.add(y_ND, up_bias).addmm_(a_NR, up.t()).view_as(y)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of ``y`` and the weights."""
        y_ND, h_NR, a_NR, down, up = ctx.saved_tensors
        grad_ND = grad.reshape(y_ND.shape)
        of_h = torch.ops.aten.gelu_backward(torch.mm(grad_ND, up), h_NR, approximate=ctx.gelu)
        of_y = torch.addmm(grad_ND, of_h, down).view_as(grad) if ctx.needs_input_grad[0] else None
        of_down, of_up = torch.mm(of_h.t(), y_ND), torch.mm(a_NR.t(), grad_ND).t()
        return of_y, of_down, of_h.sum(0), of_up, grad_ND.sum(0), None


class NormBottleneck(Bottleneck):
    """A bottleneck on the LayerNorm at the end of a layer, with its own residual connection."""

    def forward(self, x: Tensor, y: Tensor, base: nn.Module) -> Tensor:
        """``base(x + f(y))``: the bottleneck adapts the normalised ``y``; the sum with ``x`` is normalised again."""
        out: Tensor = base(x + self.bottleneck(y))
        return out


class ParallelBottleneck(Bottleneck, AdditiveDelta):
    """A bottleneck in parallel to a sub-layer, with the same input."""

    def __init__(
        self, width_in: int, width_out: int, size: int, activation: str, init_std: float, scale: float
    ) -> None:
        super().__init__(width_in, width_out, size, activation, init_std)
        self.scale = scale

    def change(self, h: Tensor) -> Tensor:
        """``s·f(x)``."""
        return self.scale * self.bottleneck(h)

    def start(self, base: nn.Module, generator: torch.Generator) -> None:
        """Initialize to the identity, as in the paper: small ``down``, zero ``up``."""
        super().start(base, generator)
        nn.init.zeros_(self.up.weight)

    @property
    def kind(self) -> tuple[object, ...]:
        """Formula, activation and scale."""
        return (*super().kind, self.scale)


@dataclass(frozen=True)
class BottleneckMethod(DeltaMethod):
    """Settings that all bottleneck methods share.

    Args:
        size: the bottleneck's width.
        activation: a name in ``ACTIVATIONS``.
        init_std: the standard deviation of the initial weights. On the branches of pre-norm backbones that of ``down``:
            there ``up`` starts at zero (``PreNormBottleneck``).
        layers: see ``DeltaMethod``.
    """

    size: int = 64
    activation: str = "gelu"
    init_std: float = 1e-2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.activation not in ACTIVATIONS:
            raise UnknownName("activation", self.activation, ACTIVATIONS)
        if isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < 1:
            raise RecipeError(f"size={self.size!r}: the bottleneck's size is a whole number from 1")
        if not self.init_std >= 0:
            raise RecipeError(f"init_std={self.init_std!r}: a standard deviation cannot be negative")


@known_settings
@dataclass(frozen=True)
class Houlsby(BottleneckMethod):
    """Parameter-Efficient Transfer Learning for NLP, arXiv:1902.00751.

    Two serial bottlenecks a layer and every LayerNorm. For BERT-base and size 64: 2,417,664 parameters.
    ``activation``: ``gelu`` is the exact one, ``gelu_tanh`` the approximation in the paper's code.
    ``norms=False`` leaves the LayerNorms frozen, as adapter-hub's ``double_seq_bn`` does. None trains them, as in the
    paper; but a new adapter leaves them frozen where they come before the sub-layers (``fitted``).
    """

    name: ClassVar = "houlsby"
    sites: ClassVar = ("attn_out", "ffn_out", *NORMS)

    norms: bool | None = field(default=None, metadata=ADDED)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.norms, bool | None):
            raise RecipeError(f"norms={self.norms!r}: give True or False")

    def fitted(self, is_pre_norm: bool) -> Houlsby:
        """The same method; if the backbone's norms come before the sub-layers, they stay frozen unless asked for."""
        return replace(self, norms=False) if is_pre_norm and self.norms is None else self

    def explicit(self) -> Houlsby:
        """``norms=None`` is ``norms=True``."""
        return replace(self, norms=self.trains_norms)

    @property
    def trains_norms(self) -> bool:
        """Whether the norms of the backbone train, too."""
        return self.norms is not False

    def acts_at(self, place: Place, num_layers: int) -> bool:
        """On the residual branches, and on the norms unless they stay frozen."""
        return (self.trains_norms or place.site not in NORMS) and super().acts_at(place, num_layers)

    def delta(self, place: Place) -> Delta:
        """A bottleneck on a residual branch, a trained gain and bias on a norm."""
        if place.site in NORMS:
            return tuned_norm(place)
        return serial_bottleneck(place, self)


@known_settings
@dataclass(frozen=True)
class Pfeiffer(BottleneckMethod):
    """AdapterFusion, arXiv:2005.00247: one bottleneck a layer, after the feed-forward sub-layer.

    It acts on the LayerNorm after that sub-layer; in pre-norm backbones on the feed-forward branch.
    """

    name: ClassVar = "pfeiffer"
    sites: ClassVar = ("ffn_norm", "ffn_out")

    activation: str = "relu"

    def acts_at(self, place: Place, num_layers: int) -> bool:
        """On the LayerNorm after the feed-forward sub-layer, or on its branch in pre-norm backbones."""
        return place.site == ("ffn_out" if place.is_pre_norm else "ffn_norm") and super().acts_at(place, num_layers)

    def delta(self, place: Place) -> Delta:
        """A bottleneck on the LayerNorm, or on the branch."""
        if place.is_pre_norm:
            return serial_bottleneck(place, self)
        return NormBottleneck(place.width_out, place.width_out, self.size, self.activation, self.init_std)


@known_settings
@dataclass(frozen=True)
class Parallel(BottleneckMethod):
    """Towards a Unified View of Parameter-Efficient Transfer Learning, arXiv:2110.04366.

    A scaled bottleneck in parallel to the feed-forward sub-layer.
    """

    name: ClassVar = "parallel"
    sites: ClassVar = ("ffn_out",)

    activation: str = "relu"
    scale: float = 4.0

    def delta(self, place: Place) -> Delta:
        """A scaled bottleneck."""
        return ParallelBottleneck(
            place.width_in, place.width_out, self.size, self.activation, self.init_std, self.scale
        )
