"""Attention on packed texts without a grid equals attention in the grid."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from polytask.backbones.fast import variable_length
from polytask.backbones.fast.attention import padded_sdpa
from polytask.backbones.fast.kernels import HeadLayout
from polytask.packing import Packing

HEADS, WIDTH = 2, 8
LENGTHS = ((5, 5, 5), (3, 9, 1), (40, 33))


def attend_text_by_text(q: Tensor, k: Tensor, v: Tensor, ends: Tensor, _: Tensor, longest: int, __: int) -> Tensor:
    """What ``torch.nn.attention.varlen.varlen_attn`` computes, ``[N, H, D/H]``."""
    sizes = ends.diff().tolist()
    assert max(sizes) <= longest
    parts = zip(*(t.transpose(0, 1).split(sizes, 1) for t in (q, k, v)))
    return torch.cat([torch.nn.functional.scaled_dot_product_attention(*part) for part in parts], 1).transpose(0, 1)


@pytest.mark.parametrize("lengths", LENGTHS)
def test_it_equals_attention_in_the_grid(lengths: tuple[int, ...]) -> None:
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    packing = Packing(mask)
    layout = HeadLayout(HEADS, packing)
    qkv = torch.randn(packing.num_tokens, 3 * HEADS * WIDTH, dtype=torch.float64)
    heads = packing.split_heads(qkv, HEADS, WIDTH).unflatten(1, (-1, HEADS))
    grid = padded_sdpa(*heads, layout.visible, WIDTH**-0.5).flatten(0, 1)
    expected = packing.unpack(packing.merge_heads(grid[None], HEADS)[:, None])
    found = packing.unpack(variable_length.context(qkv, layout, attend_text_by_text))
    torch.testing.assert_close(found, expected)


def test_a_cpu_has_no_kernel_for_it() -> None:
    packing = Packing(torch.ones(2, 4, dtype=torch.long))
    assert not variable_length.is_usable(torch.ones(8, 48, dtype=torch.bfloat16), HeadLayout(HEADS, packing))
