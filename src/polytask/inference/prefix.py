"""The frozen prefix: layers below the lowest trained one are the same for all epochs, seeds, rates and tasks.

Their output is computed once per text, in two ways. In training it is cached for the next epoch or run; in answering,
a text that several tasks of a batch ask about is computed once.

Cached states are computed in blocks whose shape depends on the text's length only. A matrix product of one shape gives
a row the same bits whatever the other rows are; a product of another shape does not. So a text's states do not depend
on the other texts, and a run that is resumed, or whose cache is full, still gets the same bits.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from polytask.adapters.attach import Attached
from polytask.backbones.backbone import Backbone
from polytask.backbones.entry_point import EntryPoint
from polytask.backbones.prefix_cache import key_of
from polytask.data.batches import Batch, collate
from polytask.data.encoding import Encoded
from polytask.devices import on_device

WIDTH_MULTIPLE = 8
BLOCK_TOKENS = {"cpu": 256}
BLOCK_TOKENS_ELSEWHERE = 2048
Text = tuple[Encoded, int]


def with_cached_prefix(
    backbone: Backbone,
    batch: Batch,
    parts: Sequence[tuple[Encoded, Sequence[int]]],
    entry: EntryPoint,
    attached: Attached | None,
    names: Collection[str | None] | None = None,
) -> Batch:
    """A batch with the hidden states that enter the backbone at ``entry``: from the cache, or computed and cached.

    Args:
        backbone: a frozen backbone; its ``prefixes`` is the cache.
        batch: what ``collate`` made of ``parts``.
        parts: encoded texts, and which of them the batch holds.
        entry: where the adapters first change something. Before layer 0 the batch is returned as it is.
        attached: the adapters on the backbone.
        names: those of the batch (default: all).
    """
    if entry.layer == 0:
        return batch
    entry = backbone.encoder.usable_entry(entry, attached, names)
    own = states_of(backbone, [(encoded, row) for encoded, rows in parts for row in rows], entry)
    states = own[0].new_zeros(*batch.ids.shape, own[0].shape[-1])
    for row, of_text in zip(states, own, strict=True):
        row[: len(of_text)] = of_text
    return replace(batch, states=on_device(states, backbone.device), entry=entry)


def with_shared_prefix(
    backbone: Backbone,
    batch: Batch,
    entry: EntryPoint,
    attached: Attached | None,
    names: Collection[str | None] | None = None,
) -> Batch:
    """A batch with the states that enter at ``entry``, computed once per distinct text; unchanged if all differ."""
    if entry.layer == 0:
        return batch
    columns = [batch.ids, batch.mask, *([] if batch.types is None else [batch.types])]
    distinct, row_of = torch.cat(columns, dim=1).unique(dim=0, return_inverse=True)
    if len(distinct) == len(batch):
        return batch
    ids, mask, *types = distinct.split(batch.ids.shape[1], dim=1)
    entry = backbone.encoder.usable_entry(entry, attached, names)
    states = backbone.encoder.prefix_states(ids, mask, types[0] if types else None, entry)
    return replace(batch, states=states[row_of], entry=entry)


def states_of(backbone: Backbone, texts: Sequence[Text], entry: EntryPoint) -> list[Tensor]:
    """The states with which each text enters at ``entry``, computed without dropout, on the CPU.

    Returns:
        Per text ``[T, D]``, or ``[T, 2D]`` behind an attention.
    """
    setting = _setting(backbone, entry)
    keys = [key_of(setting, *_token_bytes(text)) for text in texts]
    states = {key: backbone.prefixes.get(key) for key in keys}
    missing = {key: text for key, text in zip(keys, texts, strict=True) if states[key] is None}
    if missing:
        with torch.inference_mode(False), torch.no_grad(), _without_dropout(backbone.model):
            for key, computed in _compute_in_blocks(backbone, missing, entry):
                backbone.prefixes.put(key, computed)
                states[key] = computed
    return [found for key in keys if (found := states[key]) is not None]


def _setting(backbone: Backbone, entry: EntryPoint) -> bytes:
    """Everything but its tokens that the bits of a text's states depend on."""
    threads = torch.get_num_threads() if backbone.device.type == "cpu" else 0
    where = (backbone.device.type, threads, torch.__version__)
    return repr((backbone.fingerprint, *entry, f"torch.{backbone.precision}", *where)).encode()


def _token_bytes(text: Text) -> tuple[bytes, bytes]:
    encoded, row = text
    types = () if encoded.types is None else encoded.types[row]
    return array("q", encoded.ids[row]).tobytes(), array("b", types).tobytes()


def _compute_in_blocks(
    backbone: Backbone, missing: Mapping[bytes, Text], entry: EntryPoint
) -> Iterator[tuple[bytes, Tensor]]:
    """The states of texts by key. Texts of similar length are computed in blocks of one shape."""
    by_width: dict[int, list[bytes]] = {}
    for key, (encoded, row) in missing.items():
        width = -(-len(encoded.ids[row]) // WIDTH_MULTIPLE) * WIDTH_MULTIPLE
        by_width.setdefault(width, []).append(key)
    block_tokens = BLOCK_TOKENS.get(backbone.device.type, BLOCK_TOKENS_ELSEWHERE)
    for width, keys in by_width.items():
        size = max(1, block_tokens // width)
        for start in range(0, len(keys), size):
            block = keys[start : start + size]
            filled = [missing[key] for key in block] + [missing[block[-1]]] * (size - len(block))
            states = _compute_block(backbone, filled, min(width, backbone.max_length), entry)
            for key, own in zip(block, states, strict=False):
                encoded, row = missing[key]
                yield key, own[: len(encoded.ids[row])].clone()


def _compute_block(backbone: Backbone, texts: Sequence[Text], width: int, entry: EntryPoint) -> Tensor:
    """The states of these texts, ``[B, width, D]`` or ``[B, width, 2D]``."""
    parts = [(encoded, [row]) for encoded, row in texts]
    batch = collate(parts, backbone.tokenizer.pad_token_id or 0, backbone.device, width)
    inputs = (batch.ids, batch.mask, batch.types)
    return backbone.encoder.prefix_states(*inputs, entry, keep_padding=True, host_mask=batch.host_mask).cpu()


@contextmanager
def _without_dropout(model: nn.Module) -> Iterator[None]:
    was_training = model.training
    if was_training:
        model.eval()
    try:
        yield
    finally:
        if was_training:
            model.train()
