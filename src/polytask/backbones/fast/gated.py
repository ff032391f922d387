"""The fast layer of ModernBERT: norms before the branches, rotary windowed attention, gated feed-forward."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polytask.backbones.fast.int8 import Int8Linear
from polytask.backbones.fast.kernels import (
    Attention,
    GatedFeedForward,
    HeadLayout,
    Linear,
    PrepackedLinear,
    SelfAttention,
)
from polytask.backbones.fast.layer import DROPOUTS, PROBS, Attached, FastLayer
from polytask.packing import Packing


class GatedLayer(FastLayer):
    """ModernBERT's layer: two residual branches after a norm each, rotary windowed attention, gated feed-forward.

    With gradients and without them the same is computed. Without them nothing has to be kept, so a product also
    multiplies by the gate, queries and keys are rotated before attention adds padding, and texts of unequal lengths
    attend in two grids. No product adds the residual: it could only where the batch has no deltas, and would round
    differently, so that answers depended on the other adapters of a batch.
    """

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
        middle, self.is_int8 = layer.mlp.Wo.in_features, isinstance(layer.mlp.Wi, Int8Linear)
        halves = slice(middle), slice(middle, None)
        self.activated, self.gate = (PrepackedLinear(layer.mlp.Wi, rows=rows) for rows in halves)
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
        x = x.contiguous()
        h = x if isinstance(self.norms["attn_norm"], nn.Identity) else self.norm("attn_norm", x, attached)
        if not torch.is_grad_enabled() and not self.layer.training:
            return self._answer(x, h, packing, attached)
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
        return HeadLayout(self.num_heads, packing, self._rotation(packing, dtype), self.window)

    def _rotation(self, packing: Packing, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosines and sines for each position of the grid, ``[T, D/H]``; the last text's end counts for padding.

        Some scalings of positions depend on the length of the longest text, which the grid may exceed.
        """
        key = (self.kind, dtype)
        if key not in packing.cache:
            places = torch.arange(packing.grid[1]).clamp(max=packing.is_token.shape[1] - 1)[None]
            cos, sin = self.rotary(torch.empty(0, dtype=dtype), places, self.kind)
            packing.cache[key] = cos[0], sin[0]
        cos, sin = packing.cache[key]
        return cos, sin

    def _context(self, h: Tensor, layout: HeadLayout, attached: Attached | None) -> Tensor:
        """The attention context of ``[N, 1, D]``."""
        b, t = layout.packing.grid
        keep = self.dropout_mask(PROBS, h, (b, self.num_heads, t, t))
        if keep is None and not h.requires_grad:
            return self._context_of_frozen_input(h, layout, attached)
        if not self.has_qkv_deltas(attached):
            context: Tensor = SelfAttention.apply(h, self.projection, layout, keep)[0]  # type: ignore[no-untyped-call]
            return context
        qkv = Linear.apply(h, self.projection, None)  # type: ignore[no-untyped-call]
        q, k, v = self._with_deltas(h, qkv, attached).chunk(3, dim=-1)
        context = Attention.apply(q, k, v, layout, keep)  # type: ignore[no-untyped-call]
        return context

    def _out(self, context: Tensor, x: Tensor) -> Tensor:
        """The output projection of attention, followed by dropout."""
        out: Tensor = Linear.apply(context, self.dense, self.dropout_mask("attn_out", x))  # type: ignore[no-untyped-call]
        return out

    def _answer(self, x: Tensor, h: Tensor, packing: Packing, attached: Attached | None) -> Tensor:
        """The layer without gradients and dropout, for its input ``x`` and the normalised ``h``."""
        qkv = self._projected(h, attached)
        self._rotate(qkv, packing)
        context = self._context_in_grids(qkv, packing, lambda part: HeadLayout(self.num_heads, part, None, self.window))
        x = x + self.apply_deltas("attn_out", h, self.dense(context)[:, None], attached)
        h = self.norm("ffn_norm", x, attached)
        return x + self.apply_deltas("ffn_out", h, self.down(self._gated(h.squeeze(1)))[:, None], attached)

    def _rotate(self, qkv: Tensor, packing: Packing) -> None:
        """Rotate the queries and keys in ``[N, 3D]`` by their tokens' positions, in place."""
        cos, sin = self._rotation_of_tokens(packing, qkv.dtype)
        rotated = qkv[:, : cos.shape[1]]
        first, second = rotated.unflatten(1, (2 * self.num_heads, 2, -1)).unbind(2)
        swapped = torch.stack((second, first), 2).view(cos.shape)
        rotated.mul_(cos).addcmul_(swapped, sin)

    def _rotation_of_tokens(self, packing: Packing, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosines, and sines that are negative in the first half of a head, for queries and keys, ``[N, 2D]``."""
        key = ("tokens", self.kind, dtype)
        if key not in packing.cache:
            cos, sin = self._rotation(packing, dtype)
            first, second = sin.chunk(2, dim=-1)
            places = packing.pack_ids(torch.arange(packing.grid[1]).expand(packing.grid)).squeeze(1)
            each = cos, torch.cat((-first, second), dim=-1)
            packing.cache[key] = tuple(part[places].repeat(1, 2 * self.num_heads) for part in each)
        cos, sin = packing.cache[key]
        return cos, sin

    def _gated(self, h: Tensor) -> Tensor:
        """The hidden layer of the feed-forward sub-layer, ``[N, D]`` to ``[N, F]``."""
        if self.is_int8:  # one product, because each one quantises its input
            active, gate = self.up(h).chunk(2, dim=-1)
            return F.gelu(active, approximate=self.gelu).mul_(gate)
        return self.gate.multiplied(h, self.activated(h, self.gelu))
