"""How much memory a training step takes beyond weights and optimizer, by arithmetic: nothing is run or allocated.

What a layer keeps for its backward pass follows from its widths and the batch; which numbers are kept is written down
in ``frozen.py`` for the fast way and, for Hugging Face's layers, in PyTorch's formulas for derivatives. ``N`` tokens,
``B`` texts in a grid of ``T`` tokens each, ``D`` hidden, ``F`` feed-forward, ``H`` heads, ``e`` bytes a number; in
units of ``N·D·e`` (states), ``N·F·e`` (wide) and ``B·H·T²·e`` (scores). Within a fifth of the peak that was measured
(``tests/training/test_activations.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from polytask.adapters.module import LoadedAdapter
from polytask.architectures import locate
from polytask.backbones.backbone import Backbone
from polytask.backbones.fast.layer import FAST_SITES, fast_layer
from polytask.methods import Method
from polytask.methods.delta import Delta, DeltaMethod
from polytask.methods.scaling import Gain, Shift, TunedNorm
from polytask.packing import bucket_size, grid_width


@dataclass(frozen=True)
class Kept:
    """How many tensors of each sort a layer keeps."""

    states: int
    wide: int
    scores: int


FAST = Kept(states=8, wide=1, scores=2)
"""Queries, keys, values, context; two masks, what goes into two LayerNorms; before GELU; weights, weights dropped."""
PADDED = Kept(states=7, wide=1, scores=3)
"""The same with a scaled query in place of the context's two, and the mask of the probabilities."""
REPLACED = Kept(states=10, wide=2, scores=3)
"""Beside these what goes into the linears, whose weights train."""


def step_bytes(backbone: Backbone, method: Method, live: LoadedAdapter, lengths: Sequence[int]) -> int:
    """The most bytes that a step takes at once, for texts of so many tokens each.

    Args:
        backbone: gives widths, depth and the bytes of a number.
        method: what is trained; of a site's delta the input and twice the bottleneck are kept.
        live: the adapter, which says from which layer on anything is kept, and how much is cast to the backbone's type.
        lengths: the tokens of each text of the batch.
    """
    is_fast = _is_fast(backbone, method)
    num_tokens = bucket_size(sum(lengths)) if is_fast else len(lengths) * max(lengths)
    length = grid_width(max(lengths)) if is_fast else max(lengths)
    places = {place.name: place for place, *_ in locate(backbone.model, backbone.row)}
    hidden, wide = (places[f"layer.0.{site}"].width_out for site in ("ffn_down", "ffn_up"))
    num_bytes = backbone.dtype.itemsize
    states, feed = num_tokens * hidden * num_bytes, num_tokens * wide * num_bytes
    config: Any = backbone.model.config
    scores = len(lengths) * int(config.num_attention_heads) * length**2 * num_bytes
    kept = REPLACED if live.copies else FAST if is_fast else PADDED
    of_layer = kept.states * states + kept.wide * feed + kept.scores * scores
    of_deltas = num_tokens * num_bytes * _of_deltas(method, backbone)
    in_feed_forward = feed + 2 * states
    on_the_way_back = max(in_feed_forward, 2 * scores + 3 * states - in_feed_forward)
    casts = live.num_trained * num_bytes if num_bytes < 4 else 0
    return (backbone.num_layers - live.lowest.layer) * of_layer + of_deltas + on_the_way_back + casts


def _is_fast(backbone: Backbone, method: Method) -> bool:
    """Whether layers take their fast way, in which padding is not computed (``layers.py``)."""
    has_way = fast_layer(backbone.model, backbone.row.layers, 0) is not None and backbone.device.type == "cpu"
    return has_way and isinstance(method, DeltaMethod) and {*method.sites} <= {*FAST_SITES, "embed_norm"}


def _of_deltas(method: Method, backbone: Backbone) -> int:
    """Numbers that the deltas of all layers keep for a token."""
    if not isinstance(method, DeltaMethod):
        return 0
    with torch.device("meta"):
        return sum(
            _of_delta(method.delta(place), place.width_in, place.width_out)
            for place, *_ in locate(backbone.model, backbone.row)
            if method.acts_at(place, backbone.num_layers)
        )


def _of_delta(delta: Delta, width_in: int, width_out: int) -> int:
    if isinstance(delta, Gain):
        return width_out
    if isinstance(delta, Shift | TunedNorm):
        return 0  # what goes into a LayerNorm is kept anyway
    bottleneck = min(min(parameter.shape) for parameter in delta.parameters() if parameter.dim() > 1)
    return width_in + 2 * bottleneck
