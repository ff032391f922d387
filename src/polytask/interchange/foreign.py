"""Describes adapters of other libraries with our methods, sites and tensor names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from polytask.architectures import Architecture, Pooling, architecture_of
from polytask.data.task import Kind
from polytask.errors import AdapterError
from polytask.methods import LoRA, Method
from polytask.methods.delta import EMBED_NORM, LINEARS


@dataclass(frozen=True)
class ForeignHead:
    """A head of another library; its tensors are named ``head.<parameter>`` and ``head.<n>.<parameter>``."""

    tensors: Mapping[str, Tensor]
    pooling: Pooling
    layers: tuple[str, ...] = ()
    kind: Kind | None = None
    labels: tuple[str, ...] | None = None

    @property
    def num_outputs(self) -> int:
        """Number of outputs of the head."""
        return len(self.tensors["head.bias"])


@dataclass(frozen=True)
class ForeignAdapter:
    """An adapter of another library: a method with its tensors, named as in our files, and a head."""

    method: Method
    tensors: Mapping[str, Tensor]
    head: ForeignHead


@dataclass(frozen=True)
class BackboneConfig:
    """The configuration of the backbone that another library's adapter belongs to, from its ``config.json``."""

    config: Any

    @property
    def row(self) -> Architecture:
        """The architecture, which says where the sites are."""
        return architecture_of(self.model_type)

    @property
    def model_type(self) -> str:
        """``bert``, ``roberta``, …."""
        return str(self.config.model_type)

    @property
    def num_layers(self) -> int:
        """Number of layers."""
        return int(self.config.num_hidden_layers)

    @property
    def hidden(self) -> int:
        """Hidden size."""
        return int(self.config.hidden_size)

    @property
    def intermediate(self) -> int:
        """Size of the feed-forward layers."""
        return int(getattr(self.config, "intermediate_size", None) or self.config.hidden_dim)

    def place_of(self, module: str) -> str | None:
        """The place of a module by its path in the encoder, such as ``layer.3.query``; None if it is not a site."""
        if module == self.row.embed_norm:
            return EMBED_NORM
        found = re.fullmatch(rf"{re.escape(self.row.layers)}\.([0-9]{{1,4}})\.(.+)", module)
        site = {path: site for site, path in self.row.sites.items() if site in NAMED}.get(found[2]) if found else None
        return None if found is None or site is None else f"layer.{found[1]}.{site}"

    def path_in_encoder(self, module: str) -> str:
        """A module's path in the encoder, without the prefix (``bert.``) of the model with a head."""
        roots = {self.row.layers.partition(".")[0], (self.row.embed_norm or "").partition(".")[0], "pooler"}
        prefix, _, rest = module.partition(".")
        return rest if rest.partition(".")[0] in roots and prefix not in roots else module


NAMED = (*LINEARS, "attn_norm", "ffn_norm")
"""Sites that are a single module of the layer."""


def layer_and_site(place: str) -> tuple[int, str]:
    """``(3, "query")`` for ``layer.3.query``."""
    _, layer, site = place.split(".")
    return int(layer), site


def layers_setting(layers: Iterable[int], num_layers: int) -> tuple[int, ...] | None:
    """The ``layers`` setting of a method for these layers; None for all layers."""
    chosen = tuple(sorted(set(layers)))
    return None if chosen == tuple(range(num_layers)) else chosen


@dataclass(frozen=True)
class LowRankUpdate:
    """A low-rank update of one linear: ``scale · up(down(x))``."""

    down: Tensor
    up: Tensor
    scale: float

    def padded(self, rank: int, scale: float) -> tuple[Tensor, Tensor]:
        """Equivalent ``(down, up)`` matrices for a rank that is not smaller, and another scale."""
        missing = rank - len(self.down)
        return F.pad(self.down, (0, 0, 0, missing)), F.pad(self.up, (0, missing)) * (self.scale / scale)


def combined_lora(
    updates: Mapping[str, LowRankUpdate], num_layers: int, dropout: float = 0.0
) -> tuple[Method, dict[str, Tensor]]:
    """Combine updates, by place, into one LoRA; their ranks and scales may differ.

    Smaller ranks are padded with zeros, differing scales are multiplied into ``up``, and a linear that is updated in
    some layers only gets zeros in the others. None of this changes the output.

    Raises:
        AdapterError: there are no updates, or the scale is not positive.
    """
    if not updates:
        raise AdapterError("the file has no low-rank updates")
    by_site = {layer_and_site(place)[1]: update for place, update in updates.items()}
    sites = tuple(site for site in LINEARS if site in by_site)
    layers = sorted({layer_and_site(place)[0] for place in updates})
    rank = max(len(update.down) for update in updates.values())
    scale = Counter(update.scale for update in updates.values()).most_common(1)[0][0]
    if not scale > 0:
        raise AdapterError(f"the scale of the updates is {scale:g}; it must be positive")
    tensors: dict[str, Tensor] = {}
    for layer in layers:
        for site in sites:
            place, like = f"layer.{layer}.{site}", by_site[site]
            nothing = LowRankUpdate(torch.zeros(1, like.down.shape[1]), torch.zeros(len(like.up), 1), scale)
            down, up = updates.get(place, nothing).padded(rank, scale)
            tensors |= {f"{place}.down.weight": down, f"{place}.up.weight": up}
    method = LoRA(rank, scale * rank, dropout, sites, layers=layers_setting(layers, num_layers))
    return method, tensors


def ia3_gains(gains: Mapping[str, Tensor], base: BackboneConfig) -> dict[str, Tensor]:
    """The tensors of IA3 from gains by place. Missing gains are filled with ones, which changes nothing."""
    widths = {"key": base.hidden, "value": base.hidden, "ffn_mid": base.intermediate}
    places = {f"layer.{layer}.{site}": width for layer in range(base.num_layers) for site, width in widths.items()}
    return {f"{place}.gain": gains.get(place, torch.ones(width)) for place, width in places.items()}


def check_all_read(what: str, left: Sequence[str]) -> None:
    """Check that all tensors were read.

    Raises:
        AdapterError: some tensors are left.
    """
    if left:
        more = f" and {len(left) - 3} more" if len(left) > 3 else ""
        raise AdapterError(f"{what} has tensors that no method here supports: {', '.join(sorted(left)[:3])}{more}")
