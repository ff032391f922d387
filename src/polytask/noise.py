"""Dropout whose masks are a function of (seed, job, step, site), not of a generator's state.

So the rows of a job are dropped alike whatever else is in the batch and however far it is padded, and a run
that is resumed needs no generator state. Masks are cut from shared random words, 16 bits a number: torch's own
dropout draws one random number after another on one core and takes longer than the matrix products around it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Key = tuple[object, ...]
LEVELS = 1 << 16


def key_seed(*key: object) -> int:
    """A 63-bit seed from a key of numbers and strings; equal keys, equal seeds, on every machine."""
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest(), "big") >> 1


def keyed_generator(*key: object, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator that starts from ``key``."""
    return torch.Generator(device).manual_seed(key_seed(*key))


def keep_mask(shape: tuple[int, ...], rate: float, key: Key, like: Tensor) -> Tensor:
    """A mask of ``shape``: 0 where a number is dropped, else 1 over the share that is kept.

    The rate is kept to 1/65536; the type and device are those of ``like``.
    """
    numbers = 1
    for size in shape:
        numbers *= size
    words = torch.empty(-(-numbers // 4), dtype=torch.int64, device=like.device)
    words.random_(-(1 << 63), None, generator=keyed_generator(*key, device=like.device))
    levels = words.view(torch.int16)[:numbers].view(shape)
    dropped = round(rate * LEVELS)
    scale, least = LEVELS / (LEVELS - dropped), dropped - LEVELS // 2
    if like.dtype == torch.bfloat16:  # three passes over 16 bits: 0 or 1, then the bits of 0 or of the scale
        bits = int(torch.tensor(scale, dtype=torch.bfloat16).view(torch.int16))
        return levels.clamp_(least - 1, least).sub_(least - 1).mul_(bits).view(torch.bfloat16)
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
        if not self.draws or rate == 0.0:
            return x
        return x * self._mask(x, rate, site)

    def _mask(self, x: Tensor, rate: float, site: str) -> Tensor:
        first = self.draws[0]
        if len(self.draws) == 1 and first.rows == slice(0, len(x)) and self._shape(x, first) == x.shape:
            return keep_mask(tuple(x.shape), rate, (*first.key, site), x)
        mask = torch.ones_like(x)
        for draw in self.draws:
            shape = self._shape(x, draw)
            where = (draw.rows, *(slice(0, size) for size in shape[1:]))
            mask[where] = keep_mask(shape, rate, (*draw.key, site), x)
        return mask

    @staticmethod
    def _shape(x: Tensor, draw: Draw) -> tuple[int, ...]:
        """The shape that ``x`` has for this draw's rows alone."""
        num_rows, t = draw.rows.stop - draw.rows.start, draw.num_tokens
        return {2: (num_rows, *x.shape[1:]), 3: (num_rows, t, *x.shape[2:]), 4: (num_rows, x.shape[1], t, t)}[x.dim()]


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
