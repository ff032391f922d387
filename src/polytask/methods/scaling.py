"""Methods that scale or shift features: LayerNorm tuning, IA3 and BitFit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polytask.counterparts import known_settings
from polytask.methods.delta import FFN_GATE, LINEARS, NORMS, Delta, DeltaMethod, Norm, Place, per_row


class TunedNorm(Delta):
    """A LayerNorm with a task's own gain and bias in place of the backbone's."""

    prefers_loop = True
    reads_output = False

    def __init__(self, width: int, eps: float = 1e-12) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.bias = nn.Parameter(torch.empty(width))
        self.eps = eps

    def forward(self, x: Tensor, y: Tensor, base: nn.Module) -> Tensor:
        """``x`` normalised, times the task's gain, plus its bias; ``y`` is not used."""
        return norm(x, self.weight, self.bias, self.eps)

    def start(self, base: nn.Module, generator: torch.Generator) -> None:
        """Initialize with the backbone's gain and bias."""
        own = dict(base.named_parameters())
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                parameter.copy_(own[name])

    @property
    def kind(self) -> tuple[object, ...]:
        """Formula and epsilon."""
        return (type(self), self.eps)


class TunedGain(TunedNorm):
    """A LayerNorm without a bias, with a task's own gain."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__(width, eps)
        del self.bias

    def forward(self, x: Tensor, y: Tensor, base: nn.Module) -> Tensor:
        """``x`` normalised, times the task's gain; ``y`` is not used."""
        return norm(x, self.weight, None, self.eps)


class TunedRMSNorm(TunedGain):
    """An RMSNorm (arXiv:1910.07467) with a task's own gain."""

    prefers_loop = False

    def forward(self, x: Tensor, y: Tensor, base: nn.Module) -> Tensor:
        """``x`` over its root mean square, times the task's gain; ``y`` is not used."""
        return rms_norm(x, self.weight, self.eps)


class TunedRMSNormPlusOne(TunedRMSNorm):
    """Gemma's RMSNorm, whose gain is ``1 + weight``."""

    def forward(self, x: Tensor, y: Tensor, base: nn.Module) -> Tensor:
        """``x`` over its root mean square, times ``1 + weight``; ``y`` is not used."""
        return rms_norm(x, 1.0 + self.weight, self.eps)


TUNED: Mapping[Norm, type[TunedNorm]] = {
    "layer": TunedNorm,
    "gain": TunedGain,
    "rms": TunedRMSNorm,
    "rms_plus_one": TunedRMSNormPlusOne,
}


def tuned_norm(place: Place) -> Delta:
    """A new delta that tunes the norm at ``place``."""
    return TUNED[place.norm](place.width_out, place.eps)


def norm(x: Tensor, gain: Tensor, bias: Tensor | None, eps: float) -> Tensor:
    """LayerNorm over the last dimension of ``x`` with ``gain`` and ``bias`` of ``[D]`` or ``[B, D]``.

    Gain and bias stay in fp32: bf16 cannot represent a gain of 1.003.
    """
    width = (x.shape[-1],)
    if gain.dim() == 1 and (x.device.type == "cpu" or x.dtype == gain.dtype):
        return F.layer_norm(x, width, gain, bias, eps)
    if x.device.type == "cpu" and not torch.is_grad_enabled():
        return _norm_with_own_gains(x, gain, bias, eps)
    scaled = F.layer_norm(x.to(gain.dtype), width, eps=eps)
    if bias is None:
        return (scaled * per_row(gain)).to(x.dtype)
    return torch.addcmul(per_row(bias), scaled, per_row(gain)).to(x.dtype)


def _norm_with_own_gains(x: Tensor, gain: Tensor, bias: Tensor | None, eps: float) -> Tensor:
    """``norm`` with gains of ``[B, D]`` on a CPU, without gradients.

    Torch's kernel for one gain computes mean and deviation, and the steps that follow round as the kernel does. So a
    row's bits are the same as with its own adapter alone.
    """
    _, mean, inverse = torch.native_layer_norm(x, (x.shape[-1],), gain[0], None if bias is None else bias[0], eps)
    if x.dtype == gain.dtype:
        scaled = (x - mean).mul_(inverse)
    else:
        scaled = torch.addcmul(mean.mul_(inverse).neg_(), x.to(gain.dtype), inverse)
    if bias is None:
        return scaled.mul_(per_row(gain)).to(x.dtype)
    return torch.addcmul(per_row(bias), scaled, per_row(gain), out=scaled).to(x.dtype)


def rms_norm(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    """RMSNorm over the last dimension of ``x`` with ``gain`` of ``[D]`` or ``[B, D]``, computed in the wider type."""
    wide = x.to(torch.promote_types(x.dtype, gain.dtype))
    scaled = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return (scaled * per_row(gain)).to(x.dtype)


class Gain(Delta):
    """Scales each feature of ``y`` by a factor of its own: ``D`` parameters."""

    reads_input = False

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.empty(width))

    def forward(self, x: Tensor, y: Tensor, base: nn.Module) -> Tensor:
        """``y * l``."""
        return y * per_row(self.gain).to(y.dtype)

    def start(self, base: nn.Module, generator: torch.Generator) -> None:
        """Initialize with ones."""
        nn.init.ones_(self.gain)


class Shift(Delta):
    """Adds to the bias of a linear: ``D`` parameters."""

    reads_input = False

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.empty(width))

    def forward(self, x: Tensor, y: Tensor, base: nn.Module) -> Tensor:
        """``y + b``."""
        return y + per_row(self.bias).to(y.dtype)

    def start(self, base: nn.Module, generator: torch.Generator) -> None:
        """Initialize with zeros."""
        nn.init.zeros_(self.bias)


@known_settings
@dataclass(frozen=True)
class LayerNormOnly(DeltaMethod):
    """Trains gain and bias of every LayerNorm, the paper's smallest baseline: 38,400 parameters for BERT-base."""

    name: ClassVar = "layernorm"
    sites: ClassVar = NORMS
    trains: ClassVar = "norms"

    def delta(self, place: Place) -> Delta:
        """A trained gain, and a bias if the norm has one."""
        return tuned_norm(place)


@known_settings
@dataclass(frozen=True)
class IA3(DeltaMethod):
    """Few-Shot Parameter-Efficient Fine-Tuning, arXiv:2205.05638: factors on keys, values and the feed-forward's
    hidden layer."""

    name: ClassVar = "ia3"
    sites: ClassVar = ("key", "value", "ffn_mid")

    def delta(self, place: Place) -> Delta:
        """A factor for each feature."""
        return Gain(place.width_out)


@known_settings
@dataclass(frozen=True)
class BitFit(DeltaMethod):
    """BitFit, arXiv:2106.10199: the biases of linears, stored as differences to the backbone's.

    Linears without a bias stay frozen; a backbone without biases has nothing to train and is refused.
    """

    name: ClassVar = "bitfit"
    sites: ClassVar = (*LINEARS, FFN_GATE)
    trains: ClassVar = "biases of linears"

    def acts_at(self, place: Place, num_layers: int) -> bool:
        """At linears with a bias."""
        return place.has_bias and super().acts_at(place, num_layers)

    def delta(self, place: Place) -> Delta:
        """A bias for each feature."""
        return Shift(place.width_out)
