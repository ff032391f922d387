"""Fast layers: a faster forward pass on a CPU for the layers of BERT's family and ModernBERT.

``PostNormLayer`` is for BERT's family, ``GatedLayer`` for ModernBERT. A fast layer computes what Hugging Face's layer
computes, but on packed texts without padding, and with the kernels of ``kernels``, which need less memory and fewer
operations. Hugging Face's layer runs instead if the weights train, on a GPU (which has fused kernels), with deltas
inside the feed-forward sub-layer, and in a user's own model. Tests check that both give the same results.

``N`` is the number of packed tokens of the batch (``packing``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polytask.architectures import ARCHITECTURES, Architecture
from polytask.backbones.fast.attention import padded_sdpa
from polytask.backbones.fast.kernels import (
    Attention,
    FeedForward,
    GatedFeedForward,
    HeadLayout,
    Linear,
    PrepackedLinear,
    ProjectQKV,
    SelfAttention,
    attention_weights,
)
from polytask.dropout import KeyedDropout
from polytask.packing import Packing
from polytask.routing.route import Route
from polytask.routing.sites import Site

GELUS = {"gelu": "none", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}
FAST_ARCHITECTURES = tuple(name for name, row in ARCHITECTURES.items() if row.packs)
QKV_SITES = ("query", "key", "value")
FAST_SITES = (*QKV_SITES, "attn_out", "attn_norm", "ffn_out", "ffn_norm")
AFTER_ATTENTION_SITES = ("attn_out", "attn_norm", "ffn_out", "ffn_norm", "ffn_up", "ffn_down", "ffn_mid")
"""Sites of a layer that come after attention and its dropout."""
MAX_EXP_TOKENS, MAX_EXP_TOKENS_DEFAULT = {torch.bfloat16: 256}, 96
"""Up to how many tokens attention without gradients uses ``attention_weights`` (benchmarks/attending.py)."""


class Attached(Protocol):
    """The part of ``adapters.attach.Attached`` that a layer uses."""

    @property
    def sites(self) -> Mapping[str, Site]: ...

    @property
    def is_active(self) -> bool: ...

    def route_of(self, x: Tensor) -> Route: ...

    def output(self, site: Site, x: Tensor, y: Tensor) -> Tensor: ...

    def packed(self, sizes: tuple[int, ...]) -> AbstractContextManager[None]: ...


class FastLayer(ABC):
    """One layer of a frozen encoder: Hugging Face's ``forward`` on padded texts, and a fast one on packed texts."""

    embeds_positions: ClassVar[bool] = True
    """Whether the model's embeddings take positions."""
    can_enter_after_attention: ClassVar[bool] = True
    """Whether texts may enter after the layer's attention (``EntryPoint``)."""
    linears: tuple[PrepackedLinear, ...]
    drops: list[Any]
    norms: dict[str, Any]
    num_heads: int

    def __init__(self, model: nn.Module, layer: nn.Module, number: int, gelu: str) -> None:
        self.layer, self.number, self.gelu = layer, number, gelu
        self.own_forward = layer.forward
        self.attached: WeakKeyDictionary[Attached, list[Site]] = WeakKeyDictionary()
        self.find_modules(model, layer)

    @classmethod
    def supports(cls, config: Any) -> bool:
        """Whether a model of this configuration has such layers."""
        return True

    @abstractmethod
    def find_modules(self, model: nn.Module, layer: Any) -> None:
        """Set ``linears``, ``drops`` (dropout modules), ``norms`` and ``num_heads``."""

    @abstractmethod
    def fast_forward(self, x: Tensor, packing: Packing, attention: Tensor | None = None) -> Tensor:
        """The layer on packed texts.

        Args:
            x: the layer's input, ``[N, 1, D]``.
            packing: the positions of the tokens.
            attention: the attention branch without dropout, ``[N, 1, D]``, if it is known already.

        Returns:
            ``[N, 1, D]``.
        """

    @abstractmethod
    def attention_branch(self, x: Tensor, packing: Packing) -> Tensor:
        """The attention branch of the frozen layer, ``[N, 1, D]``, without gradients, deltas and dropout."""

    def is_usable(self, num_rows: int) -> bool:
        """Whether the fast layer can run the batch of ``num_rows`` texts in flight."""
        is_keyed = not self.layer.training or all(
            type(drop) is KeyedDropout and drop.dropout_source.keys and drop.dropout_source.covers(num_rows)
            for drop in self.drops
        )
        active = self.active
        return is_keyed and len(active) < 2 and self.supports_adapters(active[0] if active else None)

    def supports_adapters(self, attached: Attached | None) -> bool:
        """Whether the fast layer can run a batch with these adapters, on this device and with these weights."""
        is_frozen = all(linear.is_frozen for linear in self.linears)
        is_served = attached is None or not any(site.deltas for site in self.attached[attached])
        return self.linears[0].device.type == "cpu" and is_frozen and is_served

    @property
    def active(self) -> list[Attached]:
        """The attached adapters that would act on a forward pass now."""
        return [attached for attached in self.attached if attached.is_active]

    def register(self, attached: Attached) -> None:
        """Store the sites of ``attached`` in this layer that the fast layer does not support."""
        own = [site for site in attached.sites.values() if site.place.layer == self.number]
        self.attached[attached] = [site for site in own if site.place.site not in FAST_SITES]

    def forward(self, hidden: Tensor, mask: Tensor | Packing | None = None, *others: Any, **named: Any) -> Any:
        """``fast_forward`` if the second argument is a packing, else Hugging Face's ``forward``."""
        if isinstance(mask, Packing):
            return self.fast_forward(hidden, mask, *others)
        return self.own_forward(hidden, *(() if mask is None else (mask,)), *others, **named)

    def _context_without_gradients(self, qkv: Tensor, layout: HeadLayout) -> Tensor:
        """The attention context ``[N, 1, D]`` of queries, keys and values ``[N, 3D]``, without gradients."""
        heads = layout.packing.split_heads(qkv, self.num_heads, qkv.shape[-1] // (3 * self.num_heads))
        return layout.packing.merge_heads(self._attention(heads, layout)[None], self.num_heads)[:, None]

    def _attention(self, heads: Tensor, layout: HeadLayout) -> Tensor:
        """The context ``[BH, T, D/H]`` of queries, keys and values ``[3, BH, T, D/H]``.

        Torch's attention is used for long texts, for trained deltas on queries, keys or values, and if the bits of a
        text must not depend on the other texts, on which the choice in ``attention_weights`` depends.
        """
        packing = layout.packing
        q, k, v = layout.rotated(heads[0]), layout.rotated(heads[1]), heads[2]
        most = MAX_EXP_TOKENS.get(heads.dtype, MAX_EXP_TOKENS_DEFAULT)
        if packing.grid[1] <= most and not heads.requires_grad and not packing.keep_padding:
            weights, share = attention_weights(q, k, layout.bias(heads.dtype))
            return torch.bmm(weights, v).mul_(share)
        q, k, v = (t.unflatten(0, (-1, self.num_heads)) for t in (q, k, v))
        return padded_sdpa(q, k, v, layout.visible, q.shape[-1] ** -0.5).flatten(0, 1)

    def apply_deltas(self, site: str, x: Tensor, y: Tensor, attached: Attached | None) -> Tensor:
        """The output of a site with input ``x`` and frozen output ``y``."""
        place = self.site_with_deltas(site, attached)
        return y if attached is None or place is None else place.apply(attached.output, x, y)

    def norm(self, site: str, x: Tensor, attached: Attached | None) -> Tensor:
        """The LayerNorm at a site; the backbone's own is not computed if no row needs it."""
        own, place = self.norms[site], self.site_with_deltas(site, attached)
        if attached is None or place is None:
            return F.layer_norm(x, own.normalized_shape, own.weight, own.bias, own.eps)
        needs_own = attached.route_of(x).needs_output(place.deltas)
        y = F.layer_norm(x, own.normalized_shape, own.weight, own.bias, own.eps) if needs_own else x
        return place.apply(attached.output, x, y)

    def site_with_deltas(self, site: str, attached: Attached | None) -> Site | None:
        """The site of this name in this layer; None if it has no deltas."""
        place = None if attached is None else attached.sites.get(f"layer.{self.number}.{site}")
        return place if place is not None and place.deltas else None

    def dropout_mask(self, drop: int, like: Tensor, shape: tuple[int, ...] | None = None) -> Tensor | None:
        """The mask of number ``drop`` of the layer's dropouts; None outside of training."""
        if not self.layer.training:
            return None
        module: Any = self.drops[drop]
        keep: Tensor | None = module.dropout_source.mask(shape or tuple(like.shape), module.p, module.site, like)
        return keep


class PostNormLayer(FastLayer):
    """BERT's layer: two residual branches, each followed by a norm."""

    def find_modules(self, model: nn.Module, layer: Any) -> None:
        """Set ``linears``, ``drops``, ``norms`` and ``num_heads``."""
        attention, output = layer.attention, layer.output
        self.projections = [PrepackedLinear(getattr(attention.self, name)) for name in QKV_SITES]
        self.projection = PrepackedLinear(*(getattr(attention.self, name) for name in QKV_SITES))
        self.dense, self.down = PrepackedLinear(attention.output.dense), PrepackedLinear(output.dense)
        self.up = PrepackedLinear(layer.intermediate.dense)
        self.linears = (*self.projections, self.dense, self.up, self.down)
        self.drops = [attention.self.dropout, attention.output.dropout, output.dropout]
        self.norms = {"attn_norm": attention.output.LayerNorm, "ffn_norm": output.LayerNorm}
        self.num_heads = int(attention.self.num_attention_heads)

    def fast_forward(self, x: Tensor, packing: Packing, attention: Tensor | None = None) -> Tensor:
        """The layer on packed texts; see ``FastLayer``."""
        attached = next(iter(self.active), None)
        x = x.contiguous()
        if attention is None:
            y, x_again = self.attention(x, packing, attached)
        else:  # not a call, which would run the hook of the site on this module
            y, x_again = self.drops[1].forward(attention), x
        x = self.norm("attn_norm", x_again + self.apply_deltas("attn_out", x, y, attached), attached)
        y, x_again = FeedForward.apply(x, self.up, self.down, self.gelu, self.dropout_mask(2, x))  # type: ignore[no-untyped-call]
        return self.norm("ffn_norm", x_again + self.apply_deltas("ffn_out", x, y, attached), attached)

    def attention(self, x: Tensor, packing: Packing, attached: Attached | None) -> tuple[Tensor, Tensor]:
        """The attention branch, and ``x``."""
        b, t = packing.grid
        layout = HeadLayout(self.num_heads, packing)
        keep = self.dropout_mask(0, x, (b, self.num_heads, t, t))
        if keep is None and not (torch.is_grad_enabled() and x.requires_grad):
            return self._out(self._frozen_context(x, layout, attached), x), x
        if not any(self.site_with_deltas(site, attached) for site in QKV_SITES):
            context, x = SelfAttention.apply(x, self.projection, layout, keep)  # type: ignore[no-untyped-call]
            return self._out(context, x), x
        *projected, x_again = ProjectQKV.apply(x, *self.projections)  # type: ignore[no-untyped-call]
        q, k, v = (self.apply_deltas(site, x, y, attached) for site, y in zip(QKV_SITES, projected, strict=True))
        context = Attention.apply(q, k, v, layout, keep)  # type: ignore[no-untyped-call]
        return self._out(context, x), x_again

    def _frozen_context(self, x: Tensor, layout: HeadLayout, attached: Attached | None) -> Tensor:
        """The attention context without gradients."""
        qkv = self.projection(x.view(len(x), -1))[:, None]
        if any(self.site_with_deltas(site, attached) for site in QKV_SITES):
            projected = qkv.chunk(3, dim=-1)
            met = [self.apply_deltas(site, x, y, attached) for site, y in zip(QKV_SITES, projected, strict=True)]
            qkv = torch.cat(met, dim=-1)
        return self._context_without_gradients(qkv.squeeze(1), layout)

    def attention_branch(self, x: Tensor, packing: Packing) -> Tensor:
        """The attention branch of the frozen layer, ``[N, 1, D]``, without gradients, deltas and dropout."""
        return self._out(self._frozen_context(x, HeadLayout(self.num_heads, packing), None), x)

    def _out(self, context: Tensor, x: Tensor) -> Tensor:
        """The output projection of attention, followed by dropout."""
        out: Tensor = Linear.apply(context, self.dense, self.dropout_mask(1, x))  # type: ignore[no-untyped-call]
        return out


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
        self.drops = [drop for drop in (layer.attn.dropout, layer.attn.out_drop) if not isinstance(drop, nn.Identity)]
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
        keep = self.dropout_mask(0, h, (b, self.num_heads, t, t)) if self.drops else None
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
        keep = self.dropout_mask(1, x) if len(self.drops) > 1 else None
        out: Tensor = Linear.apply(context, self.dense, keep)  # type: ignore[no-untyped-call]
        return out


FAST: dict[str, type[FastLayer]] = {"post-norm": PostNormLayer, "gated": GatedLayer}
"""The fast layers by their name in ``Architecture.packs``."""


def use_fast_layers(model: nn.Module, architecture: Architecture) -> None:
    """Give the layers of a model a fast ``forward`` beside their own, if the architecture has one."""
    config: Any = model.config
    kind = FAST.get(architecture.packs or "")
    activation = getattr(config, "hidden_act", None) or getattr(config, "hidden_activation", None)
    if kind is None or activation not in GELUS or not kind.supports(config):
        return
    for number, layer in enumerate(model.get_submodule(architecture.layers).children()):
        layer.forward = kind(model, layer, number, GELUS[activation]).forward


def fast_layer_of(layer: nn.Module) -> FastLayer | None:
    """The fast version of a layer; None if it has none."""
    fast = getattr(layer.forward, "__self__", None)
    return fast if isinstance(fast, FastLayer) else None


def fast_layer(model: nn.Module, layers: str, number: int) -> FastLayer | None:
    """The fast version of a model's layer ``number``; None if it cannot be entered after attention."""
    fast = fast_layer_of(model.get_submodule(f"{layers}.{number}"))
    return fast if fast is not None and fast.can_enter_after_attention else None


def packed_sites(layer: nn.Module, packing: Packing) -> AbstractContextManager[None]:
    """Within the block the sites of the layer's model get packed texts."""
    fast = fast_layer_of(layer)
    active = [] if fast is None else fast.active
    return active[0].packed(packing.sizes) if active else nullcontext()


def register_sites(attached: Attached, model: nn.Module, architecture: Architecture) -> None:
    """Register attached adapters with the fast layers of ``model``."""
    for layer in model.get_submodule(architecture.layers).children():
        if (fast := fast_layer_of(layer)) is not None:
            fast.register(attached)
