"""Dropout whose masks are a function of (seed, job, step, site), not of a generator's state.

So the rows of a job are dropped alike whatever else is in the batch and however far it is padded, and a run
that is resumed needs no generator state. Masks are cut from stirred random words, 16 bits a number: torch's own
dropout draws one random number after another on one core and takes longer than the matrix products around it.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polytask.packing import grid_width, run_size

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
class DropoutKey:
    """Whose randomness some rows of a batch take: those of one job, and the tokens of each."""

    rows: slice
    key: Key
    lengths: tuple[int, ...]
    _cells: dict[object, Tensor] = field(default_factory=dict, compare=False, repr=False)

    def cells(self, width: int, device: torch.device) -> Tensor:
        """Which of its tokens is in each cell of its rows padded to ``width``, ``[B, width]``; any for padding."""
        key = (width, device)
        if key not in self._cells:
            starts = torch.tensor([0, *itertools.accumulate(self.lengths[:-1])])
            cells = starts[:, None] + torch.arange(width)
            self._cells[key] = cells.clamp_(max=self.size - 1).to(device)
        return self._cells[key]

    @cached_property
    def num_tokens(self) -> int:
        """How long its rows are when attention has them alone."""
        return grid_width(max(self.lengths))

    @cached_property
    def size(self) -> int:
        """Its tokens when they stand under each other without padding (``packing``)."""
        return run_size(self.lengths)


class KeyedDropoutSource:
    """The draws of the batch that is in flight; none outside of training."""

    def __init__(self) -> None:
        self.draws: tuple[DropoutKey, ...] = ()
        self.still: str | None = None

    @contextmanager
    def drawn(self, draws: tuple[DropoutKey, ...], still: str | None = None) -> Iterator[None]:
        """Use these draws within the block; nothing is dropped at the site ``still``."""
        before, (self.draws, self.still) = (self.draws, self.still), (draws, still)
        try:
            yield
        finally:
            self.draws, self.still = before

    def covers(self, num_rows: int) -> bool:
        """Whether the draws are those of so many rows, one after another, all of them."""
        stops = [0, *(draw.rows.stop for draw in self.draws)]
        return stops[-1] == num_rows and all(draw.rows.start == at for draw, at in zip(self.draws, stops))

    def drop(self, x: Tensor, rate: float, site: str) -> Tensor:
        """Dropout of ``x``: ``[B, D]``, ``[B, T, D]``, attention's ``[B, H, T, T]``, or packed ``[N, 1, D]``.

        Rows without a draw pass unchanged.
        """
        keep = self.keep(tuple(x.shape), rate, site, x)
        return x if keep is None else x * keep

    def keep(self, shape: tuple[int, ...], rate: float, site: str, like: Tensor) -> Tensor | None:
        """The mask that ``drop`` multiplies with, for an ``x`` of ``shape``; None where nothing is dropped.

        A job's tokens are dropped alike packed and padded.
        """
        if not self.draws or rate == 0.0 or site == self.still:
            return None
        of_draws = self._of_tokens if len(shape) == 3 else self._of_rows
        return of_draws(shape, rate, site, like)

    def _of_tokens(self, shape: tuple[int, ...], rate: float, site: str, like: Tensor) -> Tensor:
        """For ``[N, 1, D]``, the draws under each other; for ``[B, T, D]``, each token where it stands."""
        drawn = [keep_mask((draw.size, shape[2]), rate, (*draw.key, site), like) for draw in self.draws]
        rest = shape[0] - sum(len(own) for own in drawn)
        if shape[1] == 1 and rest >= 0 and self.covers(self.draws[-1].rows.stop):
            drawn += [drawn[-1].new_ones(rest, shape[2])] if rest else []  # fillers behind all of them
            return (drawn[0] if len(drawn) == 1 else torch.cat(drawn)).view(shape)
        if len(drawn) == 1 and self.draws[0].lengths == (shape[1],) * shape[0]:
            return drawn[0].view(shape)
        padded = [own[draw.cells(shape[1], like.device)] for draw, own in zip(self.draws, drawn, strict=True)]
        if len(padded) == 1 and len(padded[0]) == shape[0]:
            return padded[0]
        mask = torch.ones(shape, dtype=like.dtype, device=like.device)
        for draw, own in zip(self.draws, padded, strict=True):
            mask[draw.rows] = own
        return mask

    def _of_rows(self, shape: tuple[int, ...], rate: float, site: str, like: Tensor) -> Tensor:
        """For ``[B, D]``, and for ``[B, H, T, T]`` as far as each draw's longest row goes."""
        mask: Tensor | None = None
        for draw in self.draws:
            num_rows, t = draw.rows.stop - draw.rows.start, draw.num_tokens
            own = (num_rows, shape[1]) if len(shape) == 2 else (num_rows, shape[1], t, t)
            drawn = keep_mask(own, rate, (*draw.key, site), like)
            if own == shape:
                return drawn
            mask = torch.ones(shape, dtype=like.dtype, device=like.device) if mask is None else mask
            inside = tuple(slice(0, min(sizes)) for sizes in zip(own[1:], shape[1:]))
            mask[(draw.rows, *inside)] = drawn[(slice(None), *inside)]
        assert mask is not None
        return mask


class KeyedDropout(nn.Module):
    """In place of ``nn.Dropout``: the same rate, masks from the noise; torch's own outside of keyed training."""

    def __init__(self, rate: float, site: str, noise: KeyedDropoutSource) -> None:
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


def key_dropouts(model: nn.Module, noise: KeyedDropoutSource) -> None:
    """Put a ``KeyedDropout`` in place of every ``nn.Dropout`` of ``model``; parameter names stay."""
    for path, module in list(model.named_modules()):
        if type(module) is nn.Dropout:
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, KeyedDropout(module.p, path, noise).train(module.training))
