"""Attention on packed texts as they are, without a grid: torch's variable-length attention, on a GPU in half precision.

Shapes: ``N`` packed tokens, ``H`` heads, ``D`` hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from polytask.backbones.fast.kernels import HeadLayout

try:  # torch 2.10 or newer
    from torch.nn.attention.varlen import varlen_attn
except ImportError:
    varlen_attn: Any = None  # type: ignore[no-redef]

HALF = (torch.bfloat16, torch.float16)
MAX_WIDTH = 256
"""The widest head that the kernel takes; the width must be a multiple of 8."""


def has_kernel(qkv: Tensor) -> bool:
    """Whether there is a kernel for tensors of this device and dtype."""
    return varlen_attn is not None and qkv.device.type == "cuda" and qkv.dtype in HALF


def is_usable(qkv: Tensor, layout: HeadLayout) -> bool:
    """Whether the kernel computes the attention of ``qkv`` ``[N, 3D]``: all tokens of a text see each other."""
    width = qkv.shape[-1] // (3 * layout.num_heads)
    is_plain = layout.rotation is None and layout.window is None and layout.score_bias is None
    return has_kernel(qkv) and is_plain and not layout.packing.keep_padding and width % 8 == 0 and width <= MAX_WIDTH


def context(qkv: Tensor, layout: HeadLayout, attend: Callable[..., Any] | None = None) -> Tensor:
    """The attention context ``[N, 1, D]`` of queries, keys and values ``[N, 3D]``, without gradients.

    Args:
        qkv: queries, keys and values of each token.
        layout: how attention arranges tokens.
        attend: another function of the signature of ``varlen_attn``.
    """
    q, k, v = qkv.view(len(qkv), 3, layout.num_heads, -1).unbind(1)
    ends, longest = layout.packing.boundaries
    out: Any = (attend or varlen_attn)(q, k, v, ends, ends, longest, longest)
    return out.reshape(len(qkv), 1, -1)  # type: ignore[no-any-return]
