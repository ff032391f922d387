"""An attention function for Hugging Face models that is fast forward and backward on a CPU in bf16.

On a CPU the bf16 backward pass of torch's fused attention is several times slower than plain matrix products (measured,
see docs/performance.md), and it draws its own dropout masks. This function uses two products and a softmax, and the
layer's dropout module, which may be keyed.

Without gradients, and on a GPU without dropout, it uses torch's fused attention. On a CPU that rounds the remainder of
a row of bf16 scores over a multiple of 16 differently, so an answer would depend on how far its text is padded: keys
are padded to such a multiple.
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
"""How many scores of a row torch's attention on a CPU processes at once."""
_ALWAYS: ContextVar[bool] = ContextVar("polytask_always_masked", default=False)


@contextmanager
def always_masked() -> Iterator[None]:
    """Within the block attention always gets a mask, even if it hides nothing: operations depend on shapes only."""
    token = _ALWAYS.set(True)
    try:
        yield
    finally:
        _ALWAYS.reset(token)


def mask(*args: Any, **settings: Any) -> Tensor | None:
    """Transformers' attention mask, ``[B, 1, T, T]``, True where a token may attend; None if nothing is hidden.

    A token that may attend to nothing (padding outside every window) attends to everything instead: a softmax over
    nothing is NaN, and NaN spreads.
    """
    settings["allow_is_causal_skip"] = False  # without a mask ``attention`` is bidirectional
    settings["allow_is_bidirectional_skip"] = settings.get("allow_is_bidirectional_skip") and not _ALWAYS.get()
    visible: Tensor | None = sdpa_mask(*args, **settings)
    return None if visible is None else visible | ~visible.any(-1, keepdim=True)


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
        query, key, value: ``[B, H, T, D/H]``; keys and values may have fewer heads, each shared by several query heads.
        attention_mask: ``[B, 1, T, T]``, True where a token may attend, or None.
        scaling: the factor on the scores.
        dropout: 0 outside of training.

    Returns:
        ``[B, T, H, D/H]`` and None.
    """
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    needs_grad = torch.is_grad_enabled() and (query.requires_grad or key.requires_grad or value.requires_grad)
    if key.shape[1] != query.shape[1]:
        key, value = (t.repeat_interleave(query.shape[1] // t.shape[1], dim=1) for t in (key, value))
    if dropout == 0.0 and (not needs_grad or query.device.type != "cpu"):
        return padded_sdpa(query, key, value, attention_mask, scaling).transpose(1, 2), None
    scores = torch.matmul(query * scaling, key.mT)
    if attention_mask is not None:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    probs = torch.softmax(scores, dim=-1)
    if dropout > 0.0:
        probs = module.dropout(probs)  # type: ignore[operator]
    return torch.matmul(probs, value).transpose(1, 2), None


def padded_sdpa(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float) -> Tensor:
    """Torch's fused attention, with keys padded so that the padding of a text does not change its bits (to 256 tokens).

    Args:
        query, key, value: ``[B, H, T, D/H]``.
        mask: as in ``attention``, or ``[B, 1, 1, T]``, or what is added to scores, ``[B, H, T, T]``.
        scaling: the factor on the scores.

    Returns:
        ``[B, H, T, D/H]``.
    """
    missing = -key.shape[-2] % LANES
    if missing and key.dtype == torch.bfloat16 and key.device.type == "cpu":
        if mask is None:
            mask = torch.ones(1, 1, 1, key.shape[-2], dtype=torch.bool)
        hidden = False if mask.dtype == torch.bool else torch.finfo(mask.dtype).min
        key, value = F.pad(key, (0, 0, 0, missing)), F.pad(value, (0, 0, 0, missing))
        mask = F.pad(mask, (0, missing), value=hidden)
    return F.scaled_dot_product_attention(query, key, value, mask, scale=scaling)


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, mask)
