"""Batches texts and runs the backbone and each row's head. The second step of ``predict``."""

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
from polytask.evaluation.heads import answers, rows_of
from polytask.inference.prefix import with_cached_prefix, with_shared_prefix
from polytask.routing.route import Route

BATCH_TOKENS = {"cpu": 4096}
BATCH_TOKENS_ELSEWHERE = 1 << 15
"""The most tokens of a batch, padding included, by device type. A GPU takes as long for a few texts as for many."""


@torch.inference_mode()
def scores_of(
    backbone: Backbone,
    attached: Attached,
    adapters: Mapping[str, LoadedAdapter],
    encoded: Encoded,
    names: Sequence[str],
    batch_tokens: int | None = None,
    *,
    keep_prefix: bool = False,
) -> list[Any]:
    """Score each row with its own adapter.

    Adapters with deltas share forward passes; one that replaces backbone parameters has its own. Layers that none of a
    batch's adapters change are computed once per distinct text.

    Args:
        backbone: a frozen backbone.
        attached: the backbone's sites. Adapters with deltas are on them, under their names in ``adapters``.
        adapters: by name.
        encoded: the rows' token ids. A row that was split into windows has one text per window.
        names: each row's adapter.
        batch_tokens: the most tokens of a batch, padding included (default: by the device). Texts are batched by
            length.
        keep_prefix: keep the output of the unchanged lower layers in ``backbone.prefixes``, for the next call.

    Returns:
        One entry per row, in fp32 on the CPU: probabilities ``[K]`` or a value ``[1]``, the mean over the row's
        windows; for spans, the best ones. With a detector of "none of these" ``[K + 1]``: the last is the text's
        familiarity.
    """
    scores: list[Tensor] = [torch.empty(0)] * len(encoded)
    lengths, name_of = encoded.lengths, encoded.for_each(names)
    batch_tokens = batch_tokens or most_tokens(backbone.device)
    for group in _forward_groups(adapters, name_of):
        if any(adapters[name_of[text]].lowest.layer for text in group):
            group.sort(key=lambda text: encoded.ids[text])  # equal texts in one batch share lower layers
        for batch in budget_batches([lengths[text] for text in group], batch_tokens):
            texts = sorted((group[position] for position in batch), key=lambda text: name_of[text])
            with backbone.one_pass(training=False):
                batch_scores = _score_batch(backbone, attached, adapters, encoded, texts, name_of, keep_prefix)
            for text, score in zip(texts, batch_scores, strict=True):
                scores[text] = score
    return [
        adapters[name].head.aggregate_windows([scores[text] for text in texts], encoded.windows_of(texts))
        for name, texts in zip(names, encoded.by_row(), strict=True)
    ]


def most_tokens(device: torch.device) -> int:
    """The most tokens of a batch, padding included, on a device."""
    return BATCH_TOKENS.get(device.type, BATCH_TOKENS_ELSEWHERE)


def _forward_groups(adapters: Mapping[str, LoadedAdapter], names: Sequence[str]) -> list[list[int]]:
    """Texts that may share a forward pass: all whose adapters have deltas, and those of each replacement."""
    groups: dict[str | None, list[int]] = {}
    for text, name in enumerate(names):
        groups.setdefault(name if adapters[name].copies else None, []).append(text)
    return list(groups.values())


def _score_batch(
    backbone: Backbone,
    attached: Attached,
    adapters: Mapping[str, LoadedAdapter],
    encoded: Encoded,
    texts: Sequence[int],
    name_of: Sequence[str],
    keep_prefix: bool,
) -> list[Tensor]:
    """The scores of each of these texts, from one forward pass; texts of one adapter are adjacent."""
    batch_adapters = [adapters[name_of[text]] for text in texts]
    parts = [(encoded, texts)]
    batch = collate(parts, backbone.tokenizer.pad_token_id or 0, backbone.device)
    entry = min(adapter.lowest for adapter in batch_adapters)
    route = Route.of(name_of[text] if adapters[name_of[text]].deltas else None for text in texts)
    if keep_prefix:
        batch = with_cached_prefix(backbone, batch, parts, entry, attached, route.distinct)
    else:
        batch = with_shared_prefix(backbone, batch, entry, attached, route.distinct)
    with attached.routed(route):
        hidden, pooled = encode_batch(backbone, batch, batch_adapters[0])
    encoded_batch = (hidden, pooled, batch.mask)
    scores = answers([adapter.head for adapter in batch_adapters], *encoded_batch)
    return _with_familiarity(batch_adapters, scores, *encoded_batch)


def _with_familiarity(adapters: Sequence[LoadedAdapter], scores: list[Tensor], *encoded_batch: Tensor) -> list[Tensor]:
    """Append the familiarity to the scores of adapters with a detector of "none of these"."""
    rows: dict[LoadedAdapter, list[int]] = {}
    for row, adapter in enumerate(adapters):
        if adapter.decision.none is not None:
            rows.setdefault(adapter, []).append(row)
    for adapter, own in rows.items():
        familiarity = adapter.familiarity(adapter.head.input_of(*rows_of(own, *encoded_batch)))
        for row, value in zip(own, familiarity, strict=True):
            scores[row] = torch.cat([scores[row], value[None]])
    return scores
