"""Finds the sites of a model: each site of each layer with its modules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import nn

from polytask.architectures.row import INTO, Architecture, Fused
from polytask.methods.delta import EMBED_NORM, FINAL_NORM, NORMS, Place


class Located(NamedTuple):
    """A place with its modules.

    Attributes:
        place: the place.
        input: the module whose input the site reads.
        output: the module whose output the site writes.
        rows: the rows of the output that belong to the site, if it is a part of a fused projection.
        is_input: the site is the input of ``output``, not its output.
    """

    place: Place
    input: nn.Module
    output: nn.Module
    rows: tuple[int, ...] | None = None
    is_input: bool = False


def locate(model: nn.Module, architecture: Architecture) -> Iterator[Located]:
    """Every site of ``model``: ``embed_norm``, the sites of each layer, ``final_norm``."""
    if architecture.embed_norm is not None:
        yield _norm_site(model, architecture, architecture.embed_norm, EMBED_NORM, None)
    for number, layer in enumerate(model.get_submodule(architecture.layers).children()):
        for site, path in architecture.sites.items():
            if f"layer.{number}.{site}" not in architecture.without:
                yield _layer_site(model.config, layer, architecture, number, site, path)
    if architecture.final_norm is not None:
        yield _norm_site(model, architecture, architecture.final_norm, FINAL_NORM, None)


def _layer_site(config: Any, layer: nn.Module, row: Architecture, number: int, site: str, path: str | Fused) -> Located:
    if site in NORMS:
        assert isinstance(path, str)
        return _norm_site(layer, row, path, site, number)
    if isinstance(path, Fused):
        return _fused_site(config, layer, row, number, site, path)
    read, _, written = path.removeprefix(INTO).partition(" > ")
    output: Any = layer.get_submodule(written or read)
    if site in ("attn_out", "ffn_out"):
        place = row.place(site, number, int(config.hidden_size), int(config.hidden_size))
    elif site == "ffn_mid":
        width = _linear(layer, row.sites["ffn_down"]).in_features
        place = row.place(site, number, width, width)
    else:
        place = row.place(site, number, output.in_features, output.out_features, has_bias=output.bias is not None)
    return Located(place, layer.get_submodule(read), output, None, path.startswith(INTO))


def _fused_site(config: Any, layer: nn.Module, row: Architecture, number: int, site: str, path: Fused) -> Located:
    """A site that is a part of a fused projection."""
    linear = _linear(layer, path.path)
    rows = path.rows(linear.out_features, int(config.num_attention_heads))
    has_bias = linear.bias is not None or path.bias is not None
    place = row.place(site, number, linear.in_features, len(rows), has_bias=has_bias)
    return Located(place, linear, linear, rows)


def _norm_site(parent: nn.Module, row: Architecture, path: str, site: str, number: int | None) -> Located:
    module: Any = parent.get_submodule(path)
    has_bias = getattr(module, "bias", None) is not None
    norm = "gain" if row.norm == "layer" and not has_bias else row.norm
    width = int(module.weight.shape[0])
    place = row.place(site, number, width, width, norm=norm, has_bias=has_bias, eps=float(getattr(module, row.eps)))
    return Located(place, module, module)


def _linear(layer: nn.Module, path: str | Fused) -> nn.Linear:
    assert isinstance(path, str)
    linear = layer.get_submodule(path)
    assert isinstance(linear, nn.Linear)
    return linear
