"""An attention function for Hugging Face models that is fast forward and backward on a CPU in bf16.

Torch's fused attention has a bf16 backward pass on the CPU that is several times slower than plain products
(measured, see docs/performance.md), and draws its own dropout. This one multiplies, normalises and multiplies, and
its dropout is the layer's module, which may be keyed.

Where no gradients are asked for it is torch's own, which rounds what a row of bf16 scores has over a multiple of 16
otherwise than the rest: an answer would depend on how far its text is padded, so keys are padded to such a multiple.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

NAME = "polytask"
LANES = 16
"""Numbers of a row of scores that torch's attention on a CPU takes at once."""
_ALWAYS: ContextVar[bool] = ContextVar("polytask_always_masked", default=False)


@contextmanager
def always_masked() -> Iterator[None]:
    """Within the block attention has a mask even where it hides nothing: operations follow from shapes alone."""
    token = _ALWAYS.set(True)
    try:
        yield
    finally:
        _ALWAYS.reset(token)


def mask(*args: Any, **settings: Any) -> Tensor | None:
    """Transformers' mask, ``[B, 1, T, T]``, True where a token may look; None where all may look at all.

    Padding may look at everything, also where it stands beyond the window of every token: a softmax over nothing is
    NaN, and a NaN spreads.
    """
    settings["allow_is_causal_skip"] = False  # without a mask ``attention`` lets tokens look both ways
    settings["allow_is_bidirectional_skip"] = settings.get("allow_is_bidirectional_skip") and not _ALWAYS.get()
    seen: Tensor | None = sdpa_mask(*args, **settings)
    return None if seen is None else seen | ~seen.any(-1, keepdim=True)


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, Tensor | None]:
    """Scaled dot-product attention.

    Args:
        module: the attention layer; its ``dropout`` module is applied to the probabilities.
        query, key, value: ``[B, H, T, D/H]``; keys and values may have fewer heads, each for several of the queries.
        attention_mask: ``[B, 1, T, T]``, True where a token may look, or None.
        scaling: the factor on the scores.
        dropout: 0 outside of training.

    Returns:
        ``[B, T, H, D/H]`` and None.
    """
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    needs_grad = torch.is_grad_enabled() and (query.requires_grad or key.requires_grad or value.requires_grad)
    if key.shape[1] != query.shape[1]:
        key, value = (t.repeat_interleave(query.shape[1] // t.shape[1], dim=1) for t in (key, value))
    if dropout == 0.0 and not needs_grad:
        return padded_sdpa(query, key, value, attention_mask, scaling).transpose(1, 2), None
    scores = torch.matmul(query * scaling, key.mT)
    if attention_mask is not None:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    probs = torch.softmax(scores, dim=-1)
    if dropout > 0.0:
        probs = module.dropout(probs)  # type: ignore[operator]
    return torch.matmul(probs, value).transpose(1, 2), None


def padded_sdpa(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float) -> Tensor:
    """``[B, H, T, D/H]`` each to the same; the same bits for a text however far it is padded, up to 256 tokens.

    ``mask`` is as in ``attention``, or ``[B, 1, 1, T]``.
    """
    more = -key.shape[-2] % LANES
    if more and key.dtype == torch.bfloat16 and key.device.type == "cpu":
        if mask is None:
            mask = torch.ones(1, 1, 1, key.shape[-2], dtype=torch.bool)
        key, value, mask = F.pad(key, (0, 0, 0, more)), F.pad(value, (0, 0, 0, more)), F.pad(mask, (0, more))
    return F.scaled_dot_product_attention(query, key, value, mask, scale=scaling)


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, mask)
