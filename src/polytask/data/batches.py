"""Groups encoded texts of similar length into batches, padded to the longest text instead of a fixed width."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from polytask.backbones.entry_point import FIRST, EntryPoint
from polytask.data.encoding import Encoded
from polytask.devices import on_device
from polytask.dropout import key_seed

_POOL_BATCHES = 64
_GOLDEN_RATIO = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Batch:
    """A batch for the backbone.

    Attributes:
        ids: token ids, ``[B, T]``.
        mask: 1 for tokens and 0 for padding, ``[B, T]``.
        types: token type ids, ``[B, T]``; None if the backbone takes none.
        states: hidden states that enter the backbone at ``entry`` instead of the ids, if given.
        entry: where the batch enters the backbone.
        host_mask: ``mask`` on the host, so that its values are known without waiting for a GPU; None if it is not.
    """

    ids: Tensor
    mask: Tensor
    types: Tensor | None
    states: Tensor | None = None
    entry: EntryPoint = FIRST
    host_mask: Tensor | None = None

    def __len__(self) -> int:
        return len(self.ids)


def collate(parts: Sequence[tuple[Encoded, Sequence[int]]], pad: int, device: torch.device, multiple: int = 1) -> Batch:
    """Collate rows of several encodings into one batch.

    Args:
        parts: encodings, each with the rows to take.
        pad: the id of the padding token.
        device: where the tensors go.
        multiple: the width is rounded up to a multiple of this.

    Returns:
        A batch as wide as its longest row, rounded up.
    """
    chosen = [(encoded, row) for encoded, rows in parts for row in rows]
    longest = max(len(encoded.ids[row]) for encoded, row in chosen)
    width = -(-longest // multiple) * multiple

    def filled(lists: Iterator[list[int]], fill: int) -> Tensor:
        return torch.tensor([items + [fill] * (width - len(items)) for items in lists])

    ids = on_device(filled((encoded.ids[row] for encoded, row in chosen), pad), device)
    host_mask = filled(([1] * len(encoded.ids[row]) for encoded, row in chosen), 0)
    mask, types = on_device(host_mask, device), None
    if all(encoded.types is not None for encoded, _ in chosen):
        types = on_device(filled((encoded.types[row] for encoded, row in chosen), 0), device)  # type: ignore[index]
    return Batch(ids, mask, types, host_mask=host_mask)


def epoch_batches(lengths: Sequence[int], size: int, epoch: int, *key: object) -> list[list[int]]:
    """Return every row once, in batches of ``size`` rows of similar length.

    Rows are shuffled, sorted by length within pools of 64 batches and split into batches. The order of the batches
    follows a golden-ratio sequence of length quantiles, indexed by the step since the first epoch. The sequence is the
    same for all jobs, so jobs that train together use short batches at the same time and long ones at the same time,
    which saves padding. A job's batches do not depend on the other jobs.

    Args:
        lengths: the number of tokens of each row.
        size: rows per batch.
        epoch: counted from 0.
        key: the seed of the shuffle.
    """
    generator = random.Random(key_seed(*key, epoch))
    order = list(range(len(lengths)))
    generator.shuffle(order)
    batches = []
    for start in range(0, len(order), _POOL_BATCHES * size):
        pool = sorted(order[start : start + _POOL_BATCHES * size], key=lengths.__getitem__)
        batches += [pool[at : at + size] for at in range(0, len(pool), size)]
    batches.sort(key=lambda batch: lengths[batch[-1]])
    first = epoch * len(batches)
    quantiles = [(first + step) * _GOLDEN_RATIO % 1.0 for step in range(len(batches))]
    steps = sorted(range(len(batches)), key=quantiles.__getitem__)
    return [batch for _, batch in sorted(zip(steps, batches, strict=True))]


def budget_batches(lengths: Sequence[int], num_tokens: int) -> list[list[int]]:
    """Return every row once, longest first, in batches of at most ``num_tokens`` tokens including padding.

    A row longer than ``num_tokens`` is a batch of its own.
    """
    batches: list[list[int]] = []
    width = 0
    for row in sorted(range(len(lengths)), key=lambda row: (-lengths[row], row)):
        if not batches or (len(batches[-1]) + 1) * width > num_tokens:
            batches.append([])
            width = max(lengths[row], 1)
        batches[-1].append(row)
    return batches
