"""The hand-written kernels equal torch's own operations."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from polytask.backbones.fast.kernels import PrepackedLinear, attention_weights
from polytask.packing import Packing


def heads(scale: float, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Queries and keys whose scores are about as large as ``scale``."""
    draw = torch.Generator().manual_seed(0)
    q, k = (torch.randn(6, 9, 4, generator=draw, dtype=torch.float64) for _ in range(2))
    return (scale * q).to(dtype), k.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0, 1e3, 1e6])
def test_weights_of_attention_are_a_softmax_however_large_the_scores(scale: float, dtype: torch.dtype) -> None:
    q, k = heads(scale, dtype)
    mask = torch.tensor([[1] * 9, [1] * 5 + [0] * 4, [1] + [0] * 8])
    bias = Packing(mask).attention_bias(2, dtype)
    assert bias is not None
    bias = bias[:, :9, :9]
    weights, share = attention_weights(q, k, bias)
    scores = torch.baddbmm(bias, q, k.mT, alpha=0.5)
    near = {torch.bfloat16: 0.02, torch.float32: 1e-5, torch.float64: 1e-12}[dtype]
    torch.testing.assert_close(weights * share, torch.softmax(scores.double(), -1).to(dtype), rtol=near, atol=near)
    assert bool(torch.isfinite(share).all())


@pytest.mark.parametrize("shift", [-300.0, 0.0, 300.0])
def test_weights_are_a_softmax_far_from_zero_too(shift: float) -> None:
    q, k = heads(1.0, torch.float32)
    bias = torch.full((6, 9, 9), shift)
    weights, share = attention_weights(q, k, bias)
    expected = torch.softmax(torch.baddbmm(bias, q, k.mT, alpha=0.5), -1)
    torch.testing.assert_close(weights * share, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("gelu", ["none", "tanh"])
def test_a_prepacked_linear_equals_torch_with_gelu_and_backward(gelu: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    linear = torch.nn.Linear(8, 12).to(dtype).requires_grad_(False)
    frozen, x, grad, onto = PrepackedLinear(linear), *(torch.randn(5, n).to(dtype) for n in (8, 12, 8))
    near = {"rtol": 0.02, "atol": 0.02} if dtype == torch.bfloat16 else {}
    torch.testing.assert_close(frozen(x, gelu), F.gelu(linear(x), approximate=gelu), **near)
    torch.testing.assert_close(frozen.input_gradient(grad), grad @ linear.weight, **near)
    torch.testing.assert_close(frozen.input_gradient(grad, onto), onto + grad @ linear.weight, **near)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_part_of_a_prepacked_linear_can_multiply_in_its_product(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    linear = torch.nn.Linear(8, 12).to(dtype).requires_grad_(False)
    x, other = torch.randn(5, 8).to(dtype), torch.randn(5, 8).to(dtype)
    near = {"rtol": 0.02, "atol": 0.02} if dtype == torch.bfloat16 else {}
    part, own = PrepackedLinear(linear, rows=slice(4, None)), linear(x)[:, 4:]
    torch.testing.assert_close(part(x), own, **near)
    torch.testing.assert_close(part.multiplied(x, other), own * other, **near)
