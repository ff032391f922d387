"""Dropout whose masks are a function of (seed, job, step, site), not of a generator's state.

So the rows of a job are dropped alike whatever else is in the batch and however far it is padded, and a run
that is resumed needs no generator state. Masks are cut from stirred random words, 16 bits a number: torch's own
dropout draws one random number after another on one core and takes longer than the matrix products around it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Key = tuple[object, ...]
LEVELS = 1 << 16
TABLE_WIDTH = 256
STIR = -7046029254386353131
NEXT = 3


def key_seed(*key: object) -> int:
    """A 63-bit seed from a key of numbers and strings; equal keys, equal seeds, on every machine."""
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest(), "big") >> 1


def keyed_generator(*key: object, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator that starts from ``key``."""
    return torch.Generator(device).manual_seed(key_seed(*key))


def random_bits(numbers: int, key: Key, device: torch.device) -> Tensor:
    """``numbers`` times 16 random bits, int16, as a function of ``key``.

    Words of 64 bits are drawn for the rows and for the columns of a table; a cell is the one exclusive-or the other,
    stirred by a multiplication with an odd constant. That carries bits upwards only, so each number takes in another,
    of the next word's highest bits down to its lowest: without it columns of a mask resemble each other. Three passes
    over memory on all cores; one number after another on one core takes longer (benchmarks/noise.py, which also tests
    what comes out).
    """
    rows = -(-(numbers + NEXT) // (4 * TABLE_WIDTH))
    drawn = torch.empty(rows + TABLE_WIDTH, dtype=torch.int64, device=device)
    drawn.random_(-(1 << 63), None, generator=keyed_generator(*key, device=device))
    words = drawn[:rows, None] ^ drawn[None, rows:]
    flat = words.mul_(STIR).view(torch.int16).view(-1)
    return flat[:numbers] ^ flat[NEXT : numbers + NEXT]


def keep_mask(shape: tuple[int, ...], rate: float, key: Key, like: Tensor) -> Tensor:
    """A mask of ``shape``: 0 where a number is dropped, else 1 over the share that is kept.

    The rate is kept to 1/65536; the type and device are those of ``like``.
    """
    levels = random_bits(math.prod(shape), key, like.device).view(shape)
    dropped = round(rate * LEVELS)
    scale, least = LEVELS / (LEVELS - dropped), dropped - LEVELS // 2
    if like.dtype == torch.bfloat16:  # 0 or 1, then the bits of 0 or of the scale, where the 16 bits stand
        bits = int(torch.tensor(scale, dtype=torch.bfloat16).view(torch.int16))
        return levels.ge_(least).mul_(bits).view(torch.bfloat16)
    return (levels >= least).to(like.dtype).mul_(scale)


@dataclass(frozen=True)
class Draw:
    """Whose randomness some rows of a batch take: those of one job, ``num_tokens`` long when it is alone."""

    rows: slice
    key: Key
    num_tokens: int


class Noise:
    """The draws of the batch that is in flight; none outside of training."""

    def __init__(self) -> None:
        self.draws: tuple[Draw, ...] = ()

    @contextmanager
    def drawn(self, draws: tuple[Draw, ...]) -> Iterator[None]:
        """Use these draws within the block."""
        before, self.draws = self.draws, draws
        try:
            yield
        finally:
            self.draws = before

    def drop(self, x: Tensor, rate: float, site: str) -> Tensor:
        """Dropout of ``x``: ``[B, D]``, ``[B, T, D]`` or attention's ``[B, H, T, T]``.

        Rows without a draw pass unchanged.
        """
        keep = self.keep(tuple(x.shape), rate, site, x)
        return x if keep is None else x * keep

    def keep(self, shape: tuple[int, ...], rate: float, site: str, like: Tensor) -> Tensor | None:
        """The mask that ``drop`` multiplies with, for an ``x`` of ``shape``; None where nothing is dropped."""
        if not self.draws or rate == 0.0:
            return None
        first = self.draws[0]
        if len(self.draws) == 1 and first.rows == slice(0, shape[0]) and _alone(shape, first) == shape:
            return keep_mask(shape, rate, (*first.key, site), like)
        mask = torch.ones(shape, dtype=like.dtype, device=like.device)
        for draw in self.draws:
            own = _alone(shape, draw)
            where = (draw.rows, *(slice(0, size) for size in own[1:]))
            mask[where] = keep_mask(own, rate, (*draw.key, site), like)
        return mask


def _alone(shape: tuple[int, ...], draw: Draw) -> tuple[int, ...]:
    """What ``shape`` is for this draw's rows alone."""
    num_rows, t = draw.rows.stop - draw.rows.start, draw.num_tokens
    return {2: (num_rows, *shape[1:]), 3: (num_rows, t, *shape[2:]), 4: (num_rows, shape[1], t, t)}[len(shape)]


class KeyedDropout(nn.Module):
    """In place of ``nn.Dropout``: the same rate, masks from the noise; torch's own outside of keyed training."""

    def __init__(self, rate: float, site: str, noise: Noise) -> None:
        super().__init__()
        self.p, self.site, self.noise = rate, site, noise

    def forward(self, x: Tensor) -> Tensor:
        """``x`` with some numbers dropped, of the same shape."""
        if not self.training:
            return x
        return self.noise.drop(x, self.p, self.site) if self.noise.draws else F.dropout(x, self.p, True)

    def extra_repr(self) -> str:
        """Rate and site."""
        return f"p={self.p}, site={self.site!r}"


def key_dropouts(model: nn.Module, noise: Noise) -> None:
    """Put a ``KeyedDropout`` in place of every ``nn.Dropout`` of ``model``; parameter names stay."""
    for path, module in list(model.named_modules()):
        if type(module) is nn.Dropout:
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, KeyedDropout(module.p, path, noise).train(module.training))
