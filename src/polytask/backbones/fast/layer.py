"""Fast layers: a faster forward pass on a CPU for the layers of some architectures.

A fast layer (``post_norm``, ``gated``) computes what Hugging Face's layer computes, but on packed texts without
padding, and with the kernels of ``kernels``, which need less memory and fewer operations. Hugging Face's layer runs
instead if the weights train, in training on a GPU, with deltas inside the feed-forward sub-layer, and in a user's own
model. Tests check that both give the same results.

``N`` is the number of packed tokens of the batch (``packing``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polytask.architectures import ARCHITECTURES, Architecture
from polytask.backbones.fast import variable_length
from polytask.backbones.fast.attention import padded_sdpa
from polytask.backbones.fast.grids import Grids
from polytask.backbones.fast.kernels import HeadLayout, PrepackedLinear, attention_weights
from polytask.dropout import KeyedDropout
from polytask.packing import Packing
from polytask.routing.route import Route
from polytask.routing.sites import Site

FAST_ARCHITECTURES = tuple(name for name, row in ARCHITECTURES.items() if row.packs)
QKV_SITES = ("query", "key", "value")
PROBS = "attention_probs"
"""The dropout of attention probabilities; others are named as the site that they precede."""
DROPOUTS = (nn.Dropout, KeyedDropout)
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

    @property
    def active_names(self) -> Collection[str | None]: ...

    def route_of(self, x: Tensor) -> Route: ...

    def output(self, site: Site, x: Tensor, y: Tensor) -> Tensor: ...

    def packed(self, sizes: tuple[int, ...]) -> AbstractContextManager[None]: ...


class FastLayer(ABC):
    """One layer of a frozen encoder: Hugging Face's ``forward`` on padded texts, and a fast one on packed texts."""

    embeds_positions: ClassVar[bool] = True
    """Whether the model's embeddings take positions."""
    runs_on_gpu: ClassVar[bool] = False
    """Whether the fast layer also runs on a GPU, without gradients."""
    can_enter_after_attention: ClassVar[bool] = True
    """Whether texts may enter after the layer's attention (``EntryPoint``)."""
    projection: PrepackedLinear
    """To concatenated queries, keys and values."""
    linears: tuple[PrepackedLinear, ...]
    drops: dict[str, Any]
    norms: dict[str, Any]
    num_heads: int

    def __init__(self, model: nn.Module, row: Architecture, number: int, layer: nn.Module, gelu: str) -> None:
        self.layer, self.row, self.number, self.gelu = layer, row, number, gelu
        self.own_forward = layer.forward
        self.attached: WeakKeyDictionary[Attached, list[Site]] = WeakKeyDictionary()
        self.find_modules(model, layer)

    @classmethod
    def supports(cls, config: Any) -> bool:
        """Whether a model of this configuration has such layers."""
        return True

    @abstractmethod
    def find_modules(self, model: nn.Module, layer: Any) -> None:
        """Set ``linears``, ``drops`` (the dropout modules that there are, by name), ``norms`` and ``num_heads``."""

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
            for drop in self.drops.values()
        )
        active = self.active
        if len(active) > 1 or not is_keyed or not self._runs_here:
            return False
        return self.supports_adapters(active[0], active[0].active_names) if active else self.supports_adapters(None)

    def supports_adapters(self, attached: Attached | None, names: Collection[str | None] | None = None) -> bool:
        """Whether the fast layer can run a batch with these weights.

        Args:
            attached: the adapters on the model.
            names: those of the batch (default: all). Adapters that are not in the batch must not change a bit.
        """
        is_frozen = all(linear.is_frozen for linear in self.linears)
        is_served = attached is None or not any(site.has_deltas_of(names) for site in self.attached[attached])
        return is_frozen and is_served

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.linears[0].device

    @property
    def _runs_here(self) -> bool:
        """Whether the fast layer runs on this device.

        In training on a GPU texts are padded instead, so that the rows of fused jobs have equal sizes and their deltas
        run together.
        """
        return self.device.type == "cpu" or (self.runs_on_gpu and not torch.is_grad_enabled())

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

    def has_qkv_deltas(self, attached: Attached | None) -> bool:
        """Whether an adapter of the batch in flight has a delta on queries, keys or values."""
        return any(self.site_with_deltas(site, attached) for site in QKV_SITES)

    def _with_deltas(self, x: Tensor, qkv: Tensor, attached: Attached | None) -> Tensor:
        """Queries, keys and values ``[N, 1, 3D]`` with their deltas."""
        parts = zip(QKV_SITES, qkv.chunk(3, dim=-1), strict=True)
        return torch.cat([self.apply_deltas(site, x, part.contiguous(), attached) for site, part in parts], dim=-1)

    def _projected(self, x: Tensor, attached: Attached | None) -> Tensor:
        """Queries, keys and values with their deltas, ``[N, 1, D]`` to ``[N, 3D]``, without gradients."""
        qkv = self.projection(x.squeeze(1))
        for site, part in zip(QKV_SITES, qkv.chunk(3, dim=-1), strict=True):
            if self.site_with_deltas(site, attached) is not None:
                part.copy_(self.apply_deltas(site, x, part[:, None], attached).squeeze(1))
        return qkv

    def _context_of_frozen_input(self, x: Tensor, layout: HeadLayout, attached: Attached | None) -> Tensor:
        """The attention context ``[N, 1, D]`` if ``x`` needs no gradients; deltas may need them."""
        qkv = self.projection(x.squeeze(1))
        if self.has_qkv_deltas(attached):
            qkv = self._with_deltas(x, qkv[:, None], attached).squeeze(1)
        heads = layout.packing.split_heads(qkv, self.num_heads, qkv.shape[-1] // (3 * self.num_heads))
        return layout.packing.merge_heads(self._attention(heads, layout)[None], self.num_heads)[:, None]

    def _context_in_grids(self, qkv: Tensor, packing: Packing, layout: Callable[[Packing], HeadLayout]) -> Tensor:
        """The attention context ``[N, D]`` of queries, keys and values ``[N, 3D]``, without gradients.

        On a CPU it is computed in two grids if that saves much (``Grids``); ``layout`` gives the layout of heads in
        a grid.
        """
        if variable_length.has_kernel(qkv) and variable_length.is_usable(qkv, whole := layout(packing)):
            return variable_length.context(qkv, whole).squeeze(1)
        if "grids" not in packing.cache:
            packing.cache["grids"] = Grids(packing, self.num_heads)
        grids: Grids = packing.cache["grids"]
        width = qkv.shape[1] // (3 * self.num_heads)
        heads = [(part.split_heads(qkv, self.num_heads, width), layout(part)) for part in grids.parts]
        return grids.merge([self._attention(*own) for own in heads])

    def _attention(self, heads: Tensor, layout: HeadLayout) -> Tensor:
        """The context ``[BH, T, D/H]`` of queries, keys and values ``[3, BH, T, D/H]``.

        Torch's attention is used on a GPU, for long texts, for trained deltas on queries, keys or values, and if the
        bits of a text must not depend on the other texts, on which the choice in ``attention_weights`` depends.
        """
        packing = layout.packing
        q, k, v = layout.rotated(heads[0]), layout.rotated(heads[1]), heads[2]
        max_tokens = MAX_EXP_TOKENS.get(heads.dtype, MAX_EXP_TOKENS_DEFAULT)
        can_use_weights = heads.device.type == "cpu" and not heads.requires_grad and not packing.keep_padding
        if packing.grid[1] <= max_tokens and can_use_weights:
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
        """The site of this name in this layer; None if no adapter of the batch in flight has a delta there."""
        if attached is None:
            return None
        place = attached.sites.get(f"layer.{self.number}.{site}")
        return place if place is not None and place.has_deltas_of(attached.active_names) else None

    def dropout_mask(self, drop: str, like: Tensor, shape: tuple[int, ...] | None = None) -> Tensor | None:
        """The mask of the layer's dropout of this name; None outside of training, and if there is no such dropout."""
        if not self.layer.training or drop not in self.drops:
            return None
        module: Any = self.drops[drop]
        keep: Tensor | None = module.dropout_source.mask(shape or tuple(like.shape), module.p, module.site, like)
        return keep


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
