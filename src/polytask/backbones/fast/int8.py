"""Frozen linears in int8, for answering on a CPU.

A weight is held in int8 with a scale for each output channel. An input is quantised when it comes, with a scale for
each row, so a row's output does not depend on the other rows: sums of int8 products are exact. Inputs are shifted to
unsigned numbers, because oneDNN runs a product of two signed ones hundreds of times slower.

Shapes: ``N`` rows (tokens), ``I`` and ``O`` channels in and out.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from polytask.errors import BackboneError

aten, onednn = torch.ops.aten, torch.ops.onednn
ZERO_POINT = 128
LEVELS = 126
"""The magnitude of a row's largest number after quantisation: one less than fits, because scales are rounded."""
TINY = 1e-20
"""The smallest magnitude that a scale is computed from, so that a row of zeros divides by no zero."""
BITS = {torch.bfloat16: torch.int16, torch.float32: torch.int32}
NO_TRAINING = "an int8 backbone only answers. Load it with dtype='auto' (--dtype auto) to train"


def check_int8(device: torch.device) -> None:
    """Check that this device, processor and torch have fast int8 products.

    Raises:
        BackboneError: they have none.
    """
    missing = _missing_for_int8(device)
    if missing is not None:
        raise BackboneError(f"int8 cannot be used here: {missing}. Choose dtype='auto' (--dtype auto)")


def _missing_for_int8(device: torch.device) -> str | None:
    if device.type != "cpu":
        return f"it runs on a CPU only, not on {device.type}"
    if not all(hasattr(onednn, name) for name in ("qlinear_prepack", "qlinear_pointwise")):
        return f"torch {torch.__version__} has no int8 linear (torch.ops.onednn.qlinear_pointwise)"
    if not torch.cpu._is_vnni_supported():
        return "this processor has no int8 dot products (VNNI)"
    return None


def quantized_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Quantise each row of ``[N, I]`` symmetrically.

    Magnitudes are compared by their bits as integers, whose order is the same; torch is several times as fast at that.
    It also converts to int8 several times as fast as to uint8.

    Returns:
        ``uint8`` numbers ``[N, I]`` around ``ZERO_POINT``, and the scale of each row ``[N, 1]`` in the type of ``x``.
    """
    buffer = x.abs()
    largest = buffer.view(BITS[x.dtype]).amax(1, keepdim=True).view(x.dtype)
    inverse = LEVELS / largest.clamp_(min=TINY)
    numbers = torch.mul(x, inverse, out=buffer).round_().to(torch.int8).view(torch.uint8)
    return numbers.bitwise_xor_(ZERO_POINT), inverse.reciprocal_()


class Int8Weight:
    """A frozen weight ``[O, I]`` in int8, in the layout of oneDNN's products, and its bias ``[O]``."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        scales = weight.float().abs().amax(1).clamp_(min=TINY) / 127
        numbers = (weight.float() / scales[:, None]).round_().to(torch.int8)
        self.scales, self.zero_points = scales, torch.zeros(len(scales), dtype=torch.long)
        self.packed = onednn.qlinear_prepack(numbers, None)
        self.bias = weight.new_zeros(len(weight)) if bias is None else bias

    def __call__(self, x: Tensor, gelu: str | None = None) -> Tensor:
        """``[N, I]`` to ``[N, O]``, followed by a GELU of this kind if given."""
        numbers, row_scales = quantized_rows(x)
        product = onednn.qlinear_pointwise(
            *(numbers, 1.0, ZERO_POINT, self.packed, self.scales, self.zero_points, None),
            *(1.0, 0, x.dtype, "none", [], ""),
        )
        out = torch.addcmul(self.bias, product, row_scales, out=product)
        return out if gelu is None else aten.gelu_(out, approximate=gelu)


class Int8Linear(nn.Linear):
    """A linear of a frozen model whose product runs in int8.

    It keeps its parameters, because other code reads or replaces them. A replaced weight is used in its own type.
    """

    @classmethod
    def of(cls, linear: nn.Linear) -> Int8Linear:
        """An int8 linear with the parameters of ``linear``."""
        own = cls(linear.in_features, linear.out_features, device="meta")
        own.weight, own.bias = linear.weight, linear.bias
        return own.train(linear.training)

    def __init__(self, *args: object, **settings: object) -> None:
        super().__init__(*args, **settings)  # type: ignore[arg-type]
        self._prepared: tuple[object, Int8Weight] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """``[…, I]`` to ``[…, O]``."""
        if not is_frozen(self):
            return super().forward(x)
        if torch.is_grad_enabled() and x.requires_grad:
            raise BackboneError(NO_TRAINING)
        version = version_of(self.weight)
        if self._prepared is None or self._prepared[0] != version:
            self._prepared = version, Int8Weight(self.weight.detach(), self.bias)
        return self._prepared[1](x.reshape(-1, x.shape[-1])).view(*x.shape[:-1], -1)


def is_frozen(linear: nn.Linear) -> bool:
    """Whether the weight does not train, and is not a temporary copy of a task that replaces parameters."""
    weight = linear.weight
    return isinstance(weight, nn.Parameter) and not weight.is_inference() and not weight.requires_grad


def version_of(weight: Tensor) -> tuple[object, ...]:
    """What changes when a weight does."""
    return weight.data_ptr(), weight._version, weight.dtype


def use_int8(layers: nn.Module) -> None:
    """Run all linears of these layers in int8."""
    for module in list(layers.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Linear:
                module.add_module(name, Int8Linear.of(child))
