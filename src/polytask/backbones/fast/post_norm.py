"""The fast layer of BERT's family, MPNet and DistilBERT: two residual branches, each followed by a norm."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn

from polytask.backbones.fast.kernels import (
    Attention,
    FeedForward,
    HeadLayout,
    Linear,
    PrepackedLinear,
    ProjectQKV,
    SelfAttention,
)
from polytask.backbones.fast.layer import DROPOUTS, PROBS, QKV_SITES, Attached, FastLayer
from polytask.packing import Packing


class PostNormLayer(FastLayer):
    """The layer of BERT, MPNet and DistilBERT: two residual branches, each followed by a norm."""

    runs_on_gpu = True

    def find_modules(self, model: nn.Module, layer: Any) -> None:
        """Set ``linears``, ``drops``, ``norms`` and ``num_heads``."""
        qkv = [self._output_module(site) for site in QKV_SITES]
        self.projections, self.projection = [PrepackedLinear(linear) for linear in qkv], PrepackedLinear(*qkv)
        rest = ("attn_dense", "ffn_up", "ffn_down")
        self.dense, self.up, self.down = (PrepackedLinear(self._output_module(site)) for site in rest)
        self.linears = (*self.projections, self.dense, self.up, self.down)
        ends = {
            PROBS: self._input_module("attn_out").dropout,
            **{end: self._output_module(end) for end in ("attn_out", "ffn_out")},
        }
        self.drops = {name: end for name, end in ends.items() if isinstance(end, DROPOUTS)}
        self.norms = {site: self._output_module(site) for site in ("attn_norm", "ffn_norm")}
        config: Any = model.config
        self.num_heads = int(config.num_attention_heads)
        path = self.row.position_bias
        self.position_bias: Callable[[Tensor], Tensor] | None = None if path is None else attrgetter(path)(model)

    def _input_module(self, site: str) -> Any:
        """The module whose input a site reads."""
        return self.layer.get_submodule(str(self.row.sites[site]).partition(" > ")[0])

    def _output_module(self, site: str) -> Any:
        """The module whose output a site writes."""
        return self.layer.get_submodule(str(self.row.sites[site]).rpartition(" > ")[2])

    def layout(self, packing: Packing, dtype: torch.dtype, batch: Packing | None = None) -> HeadLayout:
        """The layout of heads, with a bias by distance that all layers share, if there is one.

        Args:
            packing: the texts.
            dtype: of the scores.
            batch: the whole batch, if ``packing`` is a part of it.
        """
        if self.position_bias is None:
            return HeadLayout(self.num_heads, packing)
        key = ("score bias", dtype)
        if key not in packing.cache:
            b, t = packing.grid
            bias = self._bias_by_distance(batch or packing, dtype)[:, :t, :t].expand(b, -1, -1, -1)
            if packing.is_masked:
                bias = bias.masked_fill(~packing.key_mask[:, None, None], torch.finfo(dtype).min)
            packing.cache[key] = bias.reshape(-1, t, t)
        return HeadLayout(self.num_heads, packing, score_bias=packing.cache[key])

    def _bias_by_distance(self, packing: Packing, dtype: torch.dtype) -> Tensor:
        """The bias of each head on the scores of two positions, ``[H, T, T]``."""
        key = ("bias by distance", dtype)
        if key not in packing.cache:
            assert self.position_bias is not None, "the architecture has one"
            packing.cache[key] = self.position_bias(torch.empty(1, packing.grid[1], device=packing.device))[0].to(dtype)
        bias: Tensor = packing.cache[key]
        return bias

    def fast_forward(self, x: Tensor, packing: Packing, attention: Tensor | None = None) -> Tensor:
        """The layer on packed texts; see ``FastLayer``."""
        attached = next(iter(self.active), None)
        x = x.contiguous()
        if attention is None:
            y, x_again = self.attention(x, packing, attached)
        else:
            keep = self.dropout_mask("attn_out", x)
            y, x_again = attention if keep is None else attention * keep, x
        x = self.norm("attn_norm", x_again + self.apply_deltas("attn_out", x, y, attached), attached)
        y, x_again = FeedForward.apply(x, self.up, self.down, self.gelu, self.dropout_mask("ffn_out", x))  # type: ignore[no-untyped-call]
        return self.norm("ffn_norm", x_again + self.apply_deltas("ffn_out", x, y, attached), attached)

    def attention(self, x: Tensor, packing: Packing, attached: Attached | None) -> tuple[Tensor, Tensor]:
        """The attention branch, and ``x`` for the residual sum."""
        b, t = packing.grid
        keep = self.dropout_mask(PROBS, x, (b, self.num_heads, t, t))
        if keep is None and not (torch.is_grad_enabled() and x.requires_grad):
            return self._out(self._frozen_context(x, packing, attached), x), x
        layout = self.layout(packing, x.dtype)
        if not self.has_qkv_deltas(attached):
            context, x = SelfAttention.apply(x, self.projection, layout, keep)  # type: ignore[no-untyped-call]
            return self._out(context, x), x
        *projected, x_again = ProjectQKV.apply(x, *self.projections)  # type: ignore[no-untyped-call]
        q, k, v = (self.apply_deltas(site, x, y, attached) for site, y in zip(QKV_SITES, projected, strict=True))
        context = Attention.apply(q, k, v, layout, keep)  # type: ignore[no-untyped-call]
        return self._out(context, x), x_again

    def _frozen_context(self, x: Tensor, packing: Packing, attached: Attached | None) -> Tensor:
        """The attention context if ``x`` needs no gradients, ``[N, 1, D]``."""
        if torch.is_grad_enabled():
            return self._context_of_frozen_input(x, self.layout(packing, x.dtype), attached)
        qkv = self._projected(x, attached)
        return self._context_in_grids(qkv, packing, lambda part: self.layout(part, x.dtype, packing))[:, None]

    def attention_branch(self, x: Tensor, packing: Packing) -> Tensor:
        """The attention branch of the frozen layer, ``[N, 1, D]``, without gradients, deltas and dropout."""
        return self._out(self._frozen_context(x, packing, None), x)

    def _out(self, context: Tensor, x: Tensor) -> Tensor:
        """The output projection of attention, followed by dropout."""
        out: Tensor = Linear.apply(context, self.dense, self.dropout_mask("attn_out", x))  # type: ignore[no-untyped-call]
        return out
