"""Texts as token ids, and ids as batches of similar length: nothing is padded to a fixed width."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from polytask.backbones.entry_point import FIRST, EntryPoint
from polytask.data.encoding import Encoded
from polytask.dropout import key_seed

POOL = 64
GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Batch:
    """``ids``, ``mask`` and ``types``, each ``[B, T]``; ``types`` None where the backbone takes none.

    Where ``states`` are given they are what enters the backbone at ``entry``.
    """

    ids: Tensor
    mask: Tensor
    types: Tensor | None
    states: Tensor | None = None
    entry: EntryPoint = FIRST

    def __len__(self) -> int:
        return len(self.ids)


def collate(parts: Sequence[tuple[Encoded, Sequence[int]]], pad: int, device: torch.device, multiple: int = 1) -> Batch:
    """One batch of the given rows of each part, padded to the longest (rounded up to ``multiple``)."""
    chosen = [(encoded, row) for encoded, rows in parts for row in rows]
    longest = max(len(encoded.ids[row]) for encoded, row in chosen)
    width = -(-longest // multiple) * multiple

    def filled(lists: Iterator[list[int]], fill: int) -> Tensor:
        return torch.tensor([items + [fill] * (width - len(items)) for items in lists], device=device)

    ids = filled((encoded.ids[row] for encoded, row in chosen), pad)
    mask = filled(([1] * len(encoded.ids[row]) for encoded, row in chosen), 0)
    if any(encoded.types is None for encoded, _ in chosen):
        return Batch(ids, mask, None)
    return Batch(ids, mask, filled((encoded.types[row] for encoded, row in chosen), 0))  # type: ignore[index]


def epoch_batches(lengths: Sequence[int], size: int, epoch: int, *key: object) -> list[list[int]]:
    """All rows once, in batches of ``size`` rows of similar length.

    Rows are shuffled by ``key``, sorted by length within pools of 64 batches and cut into batches. The batches follow a
    golden-ratio sequence of lengths counted in steps since the first epoch, which all jobs share: jobs that step
    together, whatever their data, take short batches together and long ones together, so little is padded; and which
    batches a job takes does not depend on its company.
    """
    generator = random.Random(key_seed(*key, epoch))
    order = list(range(len(lengths)))
    generator.shuffle(order)
    batches = []
    for start in range(0, len(order), POOL * size):
        pool = sorted(order[start : start + POOL * size], key=lengths.__getitem__)
        batches += [pool[at : at + size] for at in range(0, len(pool), size)]
    batches.sort(key=lambda batch: lengths[batch[-1]])
    first = epoch * len(batches)
    quantiles = [(first + step) * GOLDEN % 1.0 for step in range(len(batches))]
    steps = sorted(range(len(batches)), key=quantiles.__getitem__)
    return [batch for _, batch in sorted(zip(steps, batches, strict=True))]


def budget_batches(lengths: Sequence[int], num_tokens: int) -> list[list[int]]:
    """All rows once, longest first, in batches of at most ``num_tokens`` tokens with their padding."""
    batches: list[list[int]] = []
    width = 0
    for row in sorted(range(len(lengths)), key=lambda row: (-lengths[row], row)):
        if not batches or (len(batches[-1]) + 1) * width > num_tokens:
            batches.append([])
            width = max(lengths[row], 1)
        batches[-1].append(row)
    return batches
