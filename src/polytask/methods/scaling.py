"""Methods that scale and shift what is already there: gains, biases, LayerNorms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polytask.methods.seam import LINEARS, NORMS, Delta, DeltaMethod, Place, per_row


class TunedNorm(Delta):
    """A LayerNorm with the task's own gain and bias in place of the backbone's."""

    loops = True
    reads_output = False

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.bias = nn.Parameter(torch.empty(width))

    def forward(self, x: Tensor, y: Tensor, base: nn.Module) -> Tensor:
        """``x`` normalised, times the task's gain, plus its bias; ``y`` is not used."""
        return norm(x, self.weight, self.bias, base.eps)  # type: ignore[arg-type]

    def start(self, base: nn.Module, generator: torch.Generator) -> None:
        """The backbone's own gain and bias."""
        with torch.no_grad():
            self.weight.copy_(base.weight)  # type: ignore[arg-type]
            self.bias.copy_(base.bias)  # type: ignore[arg-type]


def norm(x: Tensor, gain: Tensor, bias: Tensor, eps: float) -> Tensor:
    """LayerNorm over the last dimension of ``x`` with ``gain`` and ``bias`` of ``[D]`` or ``[B, D]``.

    Gain and bias keep fp32: a gain of 1.003 does not exist in bf16.
    """
    width = (x.shape[-1],)
    if gain.dim() == 1 and (x.device.type == "cpu" or x.dtype == gain.dtype):
        return F.layer_norm(x, width, gain, bias, eps)
    scaled = F.layer_norm(x.to(gain.dtype), width, eps=eps)
    return torch.addcmul(per_row(bias), scaled, per_row(gain)).to(x.dtype)


class Gain(Delta):
    """One factor for each feature."""

    reads_input = False

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.empty(width))

    def forward(self, x: Tensor, y: Tensor, base: nn.Module) -> Tensor:
        """``y * l``."""
        return y * per_row(self.gain).to(y.dtype)

    def start(self, base: nn.Module, generator: torch.Generator) -> None:
        """All ones."""
        nn.init.ones_(self.gain)


class Shift(Delta):
    """What is added to the bias of a linear."""

    reads_input = False

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.empty(width))

    def forward(self, x: Tensor, y: Tensor, base: nn.Module) -> Tensor:
        """``y + b``."""
        return y + per_row(self.bias).to(y.dtype)

    def start(self, base: nn.Module, generator: torch.Generator) -> None:
        """All zeros."""
        nn.init.zeros_(self.bias)


@dataclass(frozen=True)
class LayerNormOnly(DeltaMethod):
    """The paper's smallest baseline: gain and bias of every LayerNorm. 38,400 parameters for BERT-base."""

    name: ClassVar = "layernorm"
    sites: ClassVar = NORMS

    def delta(self, place: Place) -> Delta:
        """Gain and bias."""
        return TunedNorm(place.width_out)


@dataclass(frozen=True)
class IA3(DeltaMethod):
    """Few-Shot Parameter-Efficient Fine-Tuning, arXiv:2205.05638: factors on keys, values and feed-forward."""

    name: ClassVar = "ia3"
    sites: ClassVar = ("key", "value", "ffn_mid")

    def delta(self, place: Place) -> Delta:
        """One factor for each feature."""
        return Gain(place.width_out)


@dataclass(frozen=True)
class BitFit(DeltaMethod):
    """BitFit, arXiv:2106.10199: the biases of the linears (kept as what is added to them)."""

    name: ClassVar = "bitfit"
    sites: ClassVar = LINEARS

    def delta(self, place: Place) -> Delta:
        """One bias for each feature."""
        return Shift(place.width_out)
