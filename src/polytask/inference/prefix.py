"""The frozen prefix: the layers below the lowest site are the same for every epoch, seed, learning rate and task.

What comes out of them is computed once for each text. Two ways: in training the states of a text are kept for next
time; in answering, texts that are in a batch more than once, for several tasks, are computed once.

Unusual here: kept states are computed in blocks whose shape follows from the text's length alone. A product of one
shape gives a row the same bits wherever it stands and whatever stands beside it; one of another shape does not. So a
text's states do not depend on its company: a run that is resumed, or whose memory is full, goes on to the same bits.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
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

WIDTH = 8
BLOCK_TOKENS = {"cpu": 256}
BLOCK_TOKENS_ELSEWHERE = 2048
Text = tuple[Encoded, int]


def with_cached_prefix(
    backbone: Backbone,
    batch: Batch,
    parts: Sequence[tuple[Encoded, Sequence[int]]],
    entry: EntryPoint,
    attached: Attached | None,
) -> Batch:
    """A batch as it enters at ``entry``, with the states of its texts as they were kept, or else computed and kept.

    Args:
        backbone: a frozen backbone; states are kept in its ``prefixes``.
        batch: what ``collate`` made of ``parts``.
        parts: texts that were cut into tokens, and which of them are meant.
        entry: where something begins that is not the backbone's alone; before layer 0 the batch stays what it is.
        attached: whose adapters the batch will meet.
    """
    if entry.layer == 0:
        return batch
    entry = backbone.encoder.usable_entry(entry, attached)
    own = states_of(backbone, [(encoded, row) for encoded, rows in parts for row in rows], entry)
    states = own[0].new_zeros(*batch.ids.shape, own[0].shape[-1])
    for row, of_text in zip(states, own, strict=True):
        row[: len(of_text)] = of_text
    return replace(batch, states=states.to(backbone.device), entry=entry)


def with_shared_prefix(backbone: Backbone, batch: Batch, entry: EntryPoint, attached: Attached | None) -> Batch:
    """A batch as it enters at ``entry``, each of its texts computed once; as it is, where all texts differ."""
    if entry.layer == 0:
        return batch
    columns = [batch.ids, batch.mask, *([] if batch.types is None else [batch.types])]
    distinct, number = torch.cat(columns, dim=1).unique(dim=0, return_inverse=True)
    if len(distinct) == len(batch):
        return batch
    ids, mask, *types = distinct.split(batch.ids.shape[1], dim=1)
    entry = backbone.encoder.usable_entry(entry, attached)
    states = backbone.encoder.prefix_states(ids, mask, types[0] if types else None, entry)
    return replace(batch, states=states[number], entry=entry)


def states_of(backbone: Backbone, texts: Sequence[Text], entry: EntryPoint) -> list[Tensor]:
    """The states ``[T, D]``, or ``[T, 2D]``, with which each text enters, on the CPU, without dropout."""
    setting = setting_of(backbone, entry)
    keys = [key_of(setting, *_tokens(text)) for text in texts]
    found = {key: backbone.prefixes.get(key) for key in keys}
    missing = {key: text for key, text in zip(keys, texts, strict=True) if found[key] is None}
    if missing:
        with torch.inference_mode(False), torch.no_grad(), _still(backbone.model):
            for key, computed in _computed(backbone, missing, entry):
                backbone.prefixes.put(key, computed)
                found[key] = computed
    return [states for key in keys if (states := found[key]) is not None]


def setting_of(backbone: Backbone, entry: EntryPoint) -> bytes:
    """What the states of a text follow from, to the bit, besides its tokens."""
    threads = torch.get_num_threads() if backbone.device.type == "cpu" else 0
    where = (backbone.device.type, threads, torch.__version__)
    return repr((backbone.fingerprint, *entry, str(backbone.dtype), *where)).encode()


def _tokens(text: Text) -> tuple[bytes, bytes]:
    encoded, row = text
    types = () if encoded.types is None else encoded.types[row]
    return array("q", encoded.ids[row]).tobytes(), array("b", types).tobytes()


def _computed(backbone: Backbone, missing: Mapping[bytes, Text], entry: EntryPoint) -> Iterator[tuple[bytes, Tensor]]:
    """The states of texts, block by block."""
    by_width: dict[int, list[bytes]] = {}
    for key, (encoded, row) in missing.items():
        by_width.setdefault(-(-len(encoded.ids[row]) // WIDTH) * WIDTH, []).append(key)
    tokens = BLOCK_TOKENS.get(backbone.device.type, BLOCK_TOKENS_ELSEWHERE)
    for width, keys in by_width.items():
        size = max(1, tokens // width)
        for start in range(0, len(keys), size):
            block = keys[start : start + size]
            filled = [missing[key] for key in block] + [missing[block[-1]]] * (size - len(block))
            states = _block(backbone, filled, min(width, backbone.max_length), entry)
            for key, of_text in zip(block, states, strict=False):
                encoded, row = missing[key]
                yield key, of_text[: len(encoded.ids[row])].clone()


def _block(backbone: Backbone, texts: Sequence[Text], width: int, entry: EntryPoint) -> Tensor:
    """``[B, width, D]``, or ``[B, width, 2D]``, for these texts."""
    parts = [(encoded, [row]) for encoded, row in texts]
    batch = collate(parts, backbone.tokenizer.pad_token_id or 0, backbone.device, width)
    return backbone.encoder.prefix_states(batch.ids, batch.mask, batch.types, entry, keep_padding=True).cpu()


@contextmanager
def _still(model: nn.Module) -> Iterator[None]:
    """Without dropout."""
    was = model.training
    if was:
        model.eval()
    try:
        yield
    finally:
        if was:
            model.train()
