"""The fast layer of ModernBERT: norms before the branches, rotary windowed attention, gated feed-forward."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from polytask.backbones.fast.kernels import (
    Attention,
    GatedFeedForward,
    HeadLayout,
    Linear,
    PrepackedLinear,
    SelfAttention,
)
from polytask.backbones.fast.layer import DROPOUTS, PROBS, QKV_SITES, Attached, FastLayer
from polytask.packing import Packing


class GatedLayer(FastLayer):
    """ModernBERT's layer: two residual branches after a norm each, rotary windowed attention, gated feed-forward."""

    embeds_positions = False
    can_enter_after_attention = False

    @classmethod
    def supports(cls, config: Any) -> bool:
        """Whether the model has no dropout inside its feed-forward sub-layers."""
        return not config.mlp_dropout

    def find_modules(self, model: nn.Module, layer: Any) -> None:
        """Set ``linears``, ``drops``, ``norms`` and ``num_heads``."""
        self.projection, self.dense = PrepackedLinear(layer.attn.Wqkv), PrepackedLinear(layer.attn.Wo)
        self.up, self.down = PrepackedLinear(layer.mlp.Wi), PrepackedLinear(layer.mlp.Wo)
        self.linears = (self.projection, self.dense, self.up, self.down)
        ends = {PROBS: layer.attn.dropout, "attn_out": layer.attn.out_drop}
        self.drops = {name: end for name, end in ends.items() if isinstance(end, DROPOUTS)}
        self.norms = {"attn_norm": layer.attn_norm, "ffn_norm": layer.mlp_norm}
        self.num_heads, self.kind = int(model.config.num_attention_heads), layer.attention_type  # type: ignore[union-attr, arg-type]
        self.rotary: Any = model.rotary_emb
        is_local = self.kind == "sliding_attention"
        self.window: int | None = model.config.sliding_window if is_local else None  # type: ignore[union-attr, assignment]

    def fast_forward(self, x: Tensor, packing: Packing, attention: Tensor | None = None) -> Tensor:
        """The layer on packed texts; see ``FastLayer``."""
        attached = next(iter(self.active), None)
        h = x.contiguous()
        h = h if isinstance(self.norms["attn_norm"], nn.Identity) else self.norm("attn_norm", h, attached)
        y = self._out(self._context(h, self.layout(packing, h.dtype), attached), h)
        x = x + self.apply_deltas("attn_out", h, y, attached)
        h = self.norm("ffn_norm", x, attached)
        y = GatedFeedForward.apply(h, self.up, self.down, self.gelu)  # type: ignore[no-untyped-call]
        return x + self.apply_deltas("ffn_out", h, y, attached)

    def attention_branch(self, x: Tensor, packing: Packing) -> Tensor:
        """The attention branch of the frozen layer, ``[N, 1, D]``, without gradients, deltas and dropout."""
        raise NotImplementedError("texts cannot enter after this layer's attention")

    def layout(self, packing: Packing, dtype: torch.dtype) -> HeadLayout:
        """The layout of heads, with rotations that all layers of a kind share."""
        key = (self.kind, dtype)
        if key not in packing.cache:
            like, places = torch.empty(0, dtype=dtype), torch.arange(packing.grid[1])[None]
            packing.cache[key] = tuple(part[0] for part in self.rotary(like, places, self.kind))
        return HeadLayout(self.num_heads, packing, packing.cache[key], self.window)

    def _context(self, h: Tensor, layout: HeadLayout, attached: Attached | None) -> Tensor:
        """The attention context of ``[N, 1, D]``."""
        b, t = layout.packing.grid
        keep = self.dropout_mask(PROBS, h, (b, self.num_heads, t, t))
        has_deltas = any(self.site_with_deltas(site, attached) for site in QKV_SITES)
        if keep is None and not (torch.is_grad_enabled() and h.requires_grad):
            qkv = self.projection(h.view(len(h), -1))[:, None]
            return self._context_without_gradients(
                (self._with_deltas(h, qkv, attached) if has_deltas else qkv).squeeze(1), layout
            )
        if not has_deltas:
            context: Tensor = SelfAttention.apply(h, self.projection, layout, keep)[0]  # type: ignore[no-untyped-call]
            return context
        qkv = Linear.apply(h, self.projection, None)  # type: ignore[no-untyped-call]
        q, k, v = self._with_deltas(h, qkv, attached).chunk(3, dim=-1)
        context = Attention.apply(q, k, v, layout, keep)  # type: ignore[no-untyped-call]
        return context

    def _with_deltas(self, h: Tensor, qkv: Tensor, attached: Attached | None) -> Tensor:
        """Queries, keys and values with their deltas, concatenated."""
        parts = zip(QKV_SITES, qkv.chunk(3, dim=-1), strict=True)
        return torch.cat([self.apply_deltas(site, h, part.contiguous(), attached) for site, part in parts], dim=-1)

    def _out(self, context: Tensor, x: Tensor) -> Tensor:
        """The output projection of attention, followed by dropout."""
        out: Tensor = Linear.apply(context, self.dense, self.dropout_mask("attn_out", x))  # type: ignore[no-untyped-call]
        return out
