"""Computes the memory of a training step beyond weights and optimizer. Nothing is run or allocated.

What a layer saves for its backward pass follows from its widths and the batch. Which tensors are saved is defined by
``backbones/fast/layer.py`` for fast layers, and by PyTorch's derivative formulas for Hugging Face's layers.

Sizes, for ``N`` tokens, ``B`` texts padded to ``T`` tokens, ``D`` hidden, ``F`` feed-forward, ``H`` heads and ``e``
bytes per number: states ``N·D·e``, wide ``N·F·e``, scores ``B·H·T²·e``. The result is within 20% of the measured peak
(``tests/training/test_activation_memory.py``).
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
class SavedTensors:
    """How many tensors of each size a layer saves for its backward pass."""

    states: int
    wide: int
    scores: int


FAST = SavedTensors(states=8, wide=1, scores=2)
"""Queries, keys, values, context, two masks, inputs of two LayerNorms; input of GELU; weights, masked weights."""
PADDED = SavedTensors(states=7, wide=1, scores=3)
"""The same with one scaled query instead of the context's two, and the mask of the probabilities."""
REPLACED = SavedTensors(states=10, wide=2, scores=3)
"""In addition the inputs of the linears, whose weights are trained."""


def step_bytes(backbone: Backbone, method: Method, live: LoadedAdapter, lengths: Sequence[int]) -> int:
    """The peak memory of a step in bytes.

    Args:
        backbone: its widths, depth and precision count.
        method: what is trained. A delta saves its input and twice its bottleneck.
        live: the adapter. It determines the lowest layer that saves anything, and how much is cast to the backbone's
            precision.
        lengths: the number of tokens of each text in the batch.
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
    saved = REPLACED if live.copies else FAST if is_fast else PADDED
    per_layer = saved.states * states + saved.wide * feed + saved.scores * scores
    deltas = num_tokens * num_bytes * _delta_numbers_per_token(method, backbone)
    feed_forward = feed + 2 * states
    backward = max(feed_forward, 2 * scores + 3 * states - feed_forward)
    casts = live.num_trained * num_bytes if num_bytes < 4 else 0
    return (backbone.num_layers - live.lowest.layer) * per_layer + deltas + backward + casts


def _is_fast(backbone: Backbone, method: Method) -> bool:
    """Whether layers take their fast way, in which padding is not computed (``layers.py``)."""
    has_way = fast_layer(backbone.model, backbone.row.layers, 0) is not None and backbone.device.type == "cpu"
    return has_way and isinstance(method, DeltaMethod) and {*method.sites} <= {*FAST_SITES, "embed_norm"}


def _delta_numbers_per_token(method: Method, backbone: Backbone) -> int:
    """How many numbers the deltas of all layers save per token."""
    if not isinstance(method, DeltaMethod):
        return 0
    with torch.device("meta"):
        return sum(
            _numbers_per_token(method.delta(place), place.width_in, place.width_out)
            for place, *_ in locate(backbone.model, backbone.row)
            if method.acts_at(place, backbone.num_layers)
        )


def _numbers_per_token(delta: Delta, width_in: int, width_out: int) -> int:
    if isinstance(delta, Gain):
        return width_out
    if isinstance(delta, Shift | TunedNorm):
        return 0  # the input of a LayerNorm is saved anyway
    bottleneck = min(min(parameter.shape) for parameter in delta.parameters() if parameter.dim() > 1)
    return width_in + 2 * bottleneck
