"""Scores of texts by their own adapters, computed in mixed batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from polytask.adapters.attach import Attached
from polytask.adapters.module import LoadedAdapter, encode_batch
from polytask.backbones.backbone import Backbone
from polytask.data.batches import budget_batches, collate
from polytask.data.encoding import Encoded
from polytask.evaluation.heads import answers
from polytask.inference.prefix import with_cached_prefix, with_shared_prefix
from polytask.routing.route import Route

BATCH_TOKENS = 4096


@torch.inference_mode()
def scores_of(
    backbone: Backbone,
    attached: Attached,
    adapters: Mapping[str, LoadedAdapter],
    encoded: Encoded,
    names: Sequence[str],
    batch_tokens: int = BATCH_TOKENS,
    *,
    keep_prefix: bool = False,
) -> list[Any]:
    """The scores of each row's own adapter, in the order of the rows, in fp32 on the CPU.

    A row that was split into windows has one score (``Head.aggregate_windows``): the mean, or the best spans.
    Rows are sorted by length and packed to ``batch_tokens``.
    Adapters with deltas share forward passes; a replacement runs as its own. ``adapters`` with deltas are on
    ``attached`` under the same names. A text that several adapters answer is computed once in the layers that none of
    them changes; with ``keep_prefix`` what comes out of these layers is kept for next time.
    """
    scores: list[Tensor] = [torch.empty(0)] * len(encoded)
    lengths = encoded.lengths
    of_texts = encoded.for_each(names)
    for group in _groups(adapters, of_texts):
        if any(adapters[of_texts[text]].lowest.layer for text in group):
            group.sort(key=lambda text: encoded.ids[text])  # equal texts side by side, to be in one batch
        for picked in budget_batches([lengths[text] for text in group], batch_tokens):
            texts = [group[position] for position in picked]
            own = [of_texts[text] for text in texts]
            with backbone.one_pass(training=False):
                answers = _batch_scores(backbone, attached, adapters, encoded, own, texts, keep_prefix)
            for text, answer in zip(texts, answers, strict=True):
                scores[text] = answer
    return [
        adapters[name].head.aggregate_windows([scores[text] for text in texts], encoded.windows_of(texts))
        for name, texts in zip(names, encoded.by_row(), strict=True)
    ]


def _groups(adapters: Mapping[str, LoadedAdapter], names: Sequence[str]) -> list[list[int]]:
    """Rows that may share a forward pass: all with deltas, and those of each replacement."""
    groups: dict[str | None, list[int]] = {}
    for row, name in enumerate(names):
        groups.setdefault(name if adapters[name].copies else None, []).append(row)
    return list(groups.values())


def _batch_scores(
    backbone: Backbone,
    attached: Attached,
    adapters: Mapping[str, LoadedAdapter],
    encoded: Encoded,
    names: Sequence[str],
    rows: Sequence[int],
    keep_prefix: bool,
) -> list[Tensor]:
    """One forward pass over ``rows``; one tensor of scores a row."""
    order = sorted(range(len(rows)), key=lambda at: names[at])  # an adapter's rows side by side
    parts = [(encoded, [rows[at] for at in order])]
    batch = collate(parts, backbone.tokenizer.pad_token_id or 0, backbone.device)
    lowest = min(adapters[name].lowest for name in set(names))
    if keep_prefix:
        batch = with_cached_prefix(backbone, batch, parts, lowest, attached)
    else:
        batch = with_shared_prefix(backbone, batch, lowest, attached)
    live = adapters[names[0]]
    route = Route.of(None if live.copies else names[at] for at in order)
    with attached.routed(route):
        hidden, pooled = encode_batch(backbone, batch, live)
    in_order = answers([adapters[names[at]].head for at in order], hidden, pooled)
    scores: list[Tensor] = [torch.empty(0)] * len(rows)
    for at, answer in zip(order, in_order, strict=True):
        scores[at] = answer
    return scores
