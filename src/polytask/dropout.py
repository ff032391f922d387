"""Dropout whose masks depend on a key (seed, job, step, site), not on the state of a generator.

A job therefore has the same masks whatever else is in the batch and however far the batch is padded, and a resumed run
needs no generator state. Masks are made from scrambled random words, 16 bits a number: torch's own dropout draws its
random numbers one by one on one core, which takes longer than the matrix products around it.

Shapes: ``B`` rows, ``T`` tokens, ``N`` packed tokens, ``D`` hidden, ``H`` heads.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polytask.devices import on_device
from polytask.packing import grid_width, run_size

Key = tuple[object, ...]
LEVELS = 1 << 16
TABLE_WIDTH = 256
MULTIPLIER = -7046029254386353131
SHIFT = 3


def key_seed(*key: object) -> int:
    """A 63-bit seed from a key of numbers and strings. Equal keys give equal seeds on every machine."""
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest(), "big") >> 1


def keyed_generator(*key: object, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator seeded with ``key``."""
    return torch.Generator(device).manual_seed(key_seed(*key))


def random_bits(numbers: int, key: Key, device: torch.device) -> Tensor:
    """``numbers`` random int16 values, each 16 random bits; a function of ``key``.

    One random 64-bit word is drawn for each row and each column of a table. A cell of the table is the exclusive or of
    its row's and its column's word, multiplied by an odd constant. The product carries bits upwards only, so each
    16-bit number is combined with another one a few places further; without that, columns of a mask are correlated.
    This takes three passes over memory on all cores (benchmarks/noise.py measures it and tests the bits).
    """
    rows = -(-(numbers + SHIFT) // (4 * TABLE_WIDTH))
    drawn = torch.empty(rows + TABLE_WIDTH, dtype=torch.int64, device=device)
    drawn.random_(-(1 << 63), None, generator=keyed_generator(*key, device=device))
    words = drawn[:rows, None] ^ drawn[None, rows:]
    flat = words.mul_(MULTIPLIER).view(torch.int16).view(-1)
    return flat[:numbers] ^ flat[SHIFT : numbers + SHIFT]


def keep_mask(shape: tuple[int, ...], rate: float, key: Key, like: Tensor) -> Tensor:
    """A dropout mask: 0 where a number is dropped, else ``1 / (1 - rate)``.

    Args:
        shape: the shape of the mask.
        rate: the share that is dropped, rounded to 1/65536.
        key: what the mask is a function of.
        like: a tensor of the mask's type and device.
    """
    if not rate:
        return like.new_ones(shape)
    levels = random_bits(math.prod(shape), key, like.device).view(shape)
    dropped = round(rate * LEVELS)
    scale, least = LEVELS / (LEVELS - dropped), dropped - LEVELS // 2
    if like.dtype == torch.bfloat16:  # in place: 0 or 1, times the bit pattern of the scale
        bits = int(torch.tensor(scale, dtype=torch.bfloat16).view(torch.int16))
        return levels.ge_(least).mul_(bits).view(torch.bfloat16)
    return (levels >= least).to(like.dtype).mul_(scale)


@dataclass(frozen=True)
class DropoutKey:
    """The dropout key of the rows of one job, which are consecutive in a batch.

    Attributes:
        rows: the rows.
        key: the key of their masks; the site is added to it.
        lengths: the number of tokens of each row.
        backbone_rate: the rate of these rows in place of the backbone's own. None: its own.
    """

    rows: slice
    key: Key
    lengths: tuple[int, ...]
    backbone_rate: float | None = None
    _token_indices: dict[object, Tensor] = field(default_factory=dict, compare=False, repr=False)

    def token_indices(self, width: int, device: torch.device) -> Tensor:
        """The packed index of each token if these rows are padded to ``width``, ``[B, width]``.

        Padding gets the index of an arbitrary token.
        """
        key = (width, device)
        if key not in self._token_indices:
            starts = torch.tensor([0, *itertools.accumulate(self.lengths[:-1])])
            indices = starts[:, None] + torch.arange(width)
            self._token_indices[key] = on_device(indices.clamp_(max=self.size - 1), device)
        return self._token_indices[key]

    @cached_property
    def num_tokens(self) -> int:
        """The width of attention's grid (``packing``) for a batch of these rows alone."""
        return grid_width(max(self.lengths))

    @cached_property
    def size(self) -> int:
        """The number of packed tokens of these rows, including fillers (``packing``)."""
        return run_size(self.lengths)


class KeyedDropoutSource:
    """Holds the dropout keys of the current batch; none outside of training."""

    def __init__(self) -> None:
        self.keys: tuple[DropoutKey, ...] = ()
        self.undropped_site: str | None = None

    @contextmanager
    def keyed(self, keys: tuple[DropoutKey, ...], undropped_site: str | None = None) -> Iterator[None]:
        """Use these keys within the block; nothing is dropped at ``undropped_site``."""
        before, (self.keys, self.undropped_site) = (self.keys, self.undropped_site), (keys, undropped_site)
        try:
            yield
        finally:
            self.keys, self.undropped_site = before

    def covers(self, num_rows: int) -> bool:
        """Whether the keys cover exactly the rows ``0`` to ``num_rows - 1``, in order and without gaps."""
        stops = [0, *(key.rows.stop for key in self.keys)]
        return stops[-1] == num_rows and all(key.rows.start == stop for key, stop in zip(self.keys, stops))

    def drop(self, x: Tensor, rate: float, site: str, *, is_backbone: bool = True) -> Tensor:
        """Dropout of ``x``: ``[B, D]``, ``[B, T, D]``, attention's ``[B, H, T, T]``, or packed ``[N, 1, D]``.

        Rows without a key pass unchanged. ``is_backbone`` as in ``mask``.
        """
        mask = self.mask(tuple(x.shape), rate, site, x, is_backbone=is_backbone)
        return x if mask is None else x * mask

    def mask(
        self, shape: tuple[int, ...], rate: float, site: str, like: Tensor, *, is_backbone: bool = True
    ) -> Tensor | None:
        """The mask that ``drop`` multiplies with, for an ``x`` of ``shape``; None where nothing is dropped.

        A job's tokens have the same mask packed and padded. ``is_backbone`` is whether ``rate`` is one of the backbone,
        so that a key's ``backbone_rate`` replaces it; a site without dropout stays without.
        """
        if not self.keys or rate == 0.0 or site == self.undropped_site:
            return None
        rates = [key.backbone_rate if is_backbone and key.backbone_rate is not None else rate for key in self.keys]
        if not any(rates):
            return None
        mask_of = self._token_mask if len(shape) == 3 else self._row_mask
        return mask_of(shape, rates, site, like)

    def _token_mask(self, shape: tuple[int, ...], rates: Sequence[float], site: str, like: Tensor) -> Tensor:
        """For ``[N, 1, D]`` the keys' masks one after another; for ``[B, T, D]`` the same masks, padded."""
        masks = [
            keep_mask((key.size, shape[2]), rate, (*key.key, site), like)
            for key, rate in zip(self.keys, rates, strict=True)
        ]
        rest = shape[0] - sum(len(mask) for mask in masks)
        if shape[1] == 1 and rest >= 0 and self.covers(self.keys[-1].rows.stop):
            masks += [masks[-1].new_ones(rest, shape[2])] if rest else []  # fillers at the end
            return (masks[0] if len(masks) == 1 else torch.cat(masks)).view(shape)
        if len(masks) == 1 and self.keys[0].lengths == (shape[1],) * shape[0]:
            return masks[0].view(shape)
        padded = [own[key.token_indices(shape[1], like.device)] for key, own in zip(self.keys, masks, strict=True)]
        if len(padded) == 1 and len(padded[0]) == shape[0]:
            return padded[0]
        mask = torch.ones(shape, dtype=like.dtype, device=like.device)
        for key, own in zip(self.keys, padded, strict=True):
            mask[key.rows] = own
        return mask

    def _row_mask(self, shape: tuple[int, ...], rates: Sequence[float], site: str, like: Tensor) -> Tensor:
        """The mask of ``[B, D]`` or ``[B, H, T, T]``; in the latter, masks end at the longest row of each key."""
        mask: Tensor | None = None
        for key, rate in zip(self.keys, rates, strict=True):
            num_rows, t = key.rows.stop - key.rows.start, key.num_tokens
            own_shape = (num_rows, shape[1]) if len(shape) == 2 else (num_rows, shape[1], t, t)
            own = keep_mask(own_shape, rate, (*key.key, site), like)
            if own_shape == shape:
                return own
            mask = torch.ones(shape, dtype=like.dtype, device=like.device) if mask is None else mask
            inside = tuple(slice(0, min(sizes)) for sizes in zip(own_shape[1:], shape[1:]))
            mask[(key.rows, *inside)] = own[(slice(None), *inside)]
        assert mask is not None
        return mask


class KeyedDropout(nn.Module):
    """Replaces ``nn.Dropout``: the same rate, with masks from a source; torch's own dropout while that has no keys."""

    def __init__(self, rate: float, site: str, dropout_source: KeyedDropoutSource) -> None:
        super().__init__()
        self.p, self.site, self.dropout_source = rate, site, dropout_source

    def forward(self, x: Tensor) -> Tensor:
        """``x`` with some numbers dropped, of the same shape."""
        if not self.training:
            return x
        return self.dropout_source.drop(x, self.p, self.site) if self.dropout_source.keys else F.dropout(x, self.p)

    def extra_repr(self) -> str:
        """Rate and site."""
        return f"p={self.p}, site={self.site!r}"


def key_dropouts(model: nn.Module, dropout_source: KeyedDropoutSource) -> None:
    """Replace every ``nn.Dropout`` of ``model`` by a ``KeyedDropout``; parameter names stay."""
    for path, module in list(model.named_modules()):
        if type(module) is nn.Dropout:
            parent, _, name = path.rpartition(".")
            keyed = KeyedDropout(module.p, path, dropout_source).train(module.training)
            setattr(model.get_submodule(parent), name, keyed)
