"""Packs a batch: the tokens of all texts one after another without padding, and a padded grid for attention.

Most of a transformer works on each token by itself, so padding need not be computed; only attention needs a grid of
texts. A run is the texts of one owner (the rows of a job, or all rows). If they differ in length, a run is filled up to
one of a few sizes, because a matrix product of a size that is new to torch takes many times as long. The output of
these filler tokens is not used, and their gradients are zeros.

Shapes: ``B`` texts, ``L`` tokens of the longest, ``T`` tokens a row of the grid, ``N`` packed tokens, ``C`` channels,
``P`` parts of a projection (queries, keys, values), ``H`` heads.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from polytask.devices import on_device

Rearrangement = Callable[[Tensor], Tensor]


def run_size(lengths: Sequence[int]) -> int:
    """The number of packed tokens of a run, fillers included: at most 1/32 (or seven) more than its texts have."""
    total = sum(lengths)
    return total if len(set(lengths)) == 1 else bucket_size(total)


def bucket_size(total: int) -> int:
    """A number of tokens rounded up to one of 32 sizes between two powers of two, or to a multiple of 8."""
    step = max(8, 1 << max(total.bit_length() - 6, 0))
    return -(-total // step) * step


def grid_width(num_tokens: int) -> int:
    """``T`` for texts of up to ``num_tokens``: the next multiple of 16, unless the last one is exceeded by at most 4.

    Torch's bf16 softmax handles the remainder of a row one number at a time: 15 of them take up to three times as long
    as a row that is 16 longer (benchmarks/sizes.py).
    """
    whole = num_tokens // 16 * 16
    return num_tokens if whole and num_tokens - whole <= 4 else -(-num_tokens // 16) * 16


class Packing:
    """The positions of a batch's tokens, packed and in the grid.

    Args:
        mask: 1 on tokens and 0 on padding, ``[B, L]``.
        runs: the number of texts of each run, in order (default: one run).
        keep_padding: pack padding like tokens, so that all shapes depend on ``B`` and ``L`` only.
        device: where the packed tensors are (default: where ``mask`` is, which is read by the host).

    Attributes:
        sizes: the number of packed tokens of each text; the fillers of a run count towards its last text.
        grid: ``B`` and ``T``.
        keep_padding, device: as given.
        cache: values that layers compute once a batch, such as rotary embeddings.
    """

    def __init__(
        self,
        mask: Tensor,
        runs: Sequence[int] | None = None,
        *,
        keep_padding: bool = False,
        device: torch.device | None = None,
    ) -> None:
        self.device = device or mask.device
        self.grid = (len(mask), grid_width(mask.shape[1]))
        self._mask = mask
        self.is_token = torch.ones_like(mask, dtype=torch.bool) if keep_padding else mask.bool()
        self.keep_padding = keep_padding
        self.is_full = keep_padding or bool(self.is_token.all())
        self.sizes: tuple[int, ...] = tuple(_packed_sizes(self.is_token.sum(1).tolist(), runs or [len(mask)]))
        self.num_tokens = sum(self.sizes)
        self._biases: dict[tuple[int, torch.dtype, int | None], Tensor | None] = {}
        self.cache: dict[object, Any] = {}
        self._indices: dict[tuple[str, int, int], Tensor] = {}

    @property
    def is_dense(self) -> bool:
        """Whether the grid has no padding, so that packing is a reshape."""
        return self.is_full and self.is_token.shape[1] == self.grid[1]

    @cached_property
    def key_mask(self) -> Tensor:
        """True on the tokens that attention may look at, ``[B, T]``."""
        return on_device(F.pad(self._mask.bool(), (0, self.grid[1] - self._mask.shape[1])), self.device)

    @cached_property
    def _packed_index(self) -> Tensor:
        """The packed position of each token, ``[B, T]``; for padding that of a filler, or ``N`` if there is none."""
        starts = torch.tensor([0, *self.sizes[:-1]]).cumsum(0)
        ends = starts + self.is_token.sum(1)
        has_fillers = ends < starts + torch.tensor(self.sizes)
        padding = int(ends[has_fillers][0]) if bool(has_fillers.any()) else self.num_tokens
        tokens = (starts[:, None] + self.is_token.cumsum(1) - 1).masked_fill_(~self.is_token, padding)
        return F.pad(tokens, (0, self.grid[1] - tokens.shape[1]), value=padding)

    @cached_property
    def _grid_index(self) -> tuple[Tensor, Tensor]:
        """Row and column in the grid of each packed token, ``[N]`` each; for fillers those of some padding."""
        is_token = F.pad(self.is_token, (0, self.grid[1] - self.is_token.shape[1]))
        padding = int(is_token.flatten().logical_not().int().argmax())
        cells = torch.full((self.num_tokens,), padding)
        cells[self._packed_index[is_token]] = is_token.flatten().nonzero().squeeze(1)
        return cells // self.grid[1], cells % self.grid[1]

    @cached_property
    def _places(self) -> Tensor:
        """``_packed_index`` on the device."""
        return on_device(self._packed_index, self.device)

    @cached_property
    def _cells(self) -> tuple[Tensor, Tensor]:
        """``_grid_index`` on the device."""
        row, column = self._grid_index
        return on_device(row, self.device), on_device(column, self.device)

    @cached_property
    def _tokens(self) -> Tensor:
        """``is_token`` on the device."""
        return on_device(self.is_token, self.device)

    @cached_property
    def boundaries(self) -> tuple[Tensor, int]:
        """Where each text ends in the packed tokens, after a 0, and the most tokens of one; fillers count as texts."""
        lengths = self.is_token.sum(1).tolist()
        parts = [part for own, size in zip(lengths, self.sizes) for part in (own, size - own) if part]
        ends = itertools.accumulate(parts, initial=0)
        return on_device(torch.tensor([*ends], dtype=torch.int32), self.device), max(parts)

    def pack_ids(self, ids: Tensor) -> Tensor:
        """``[B, L]`` to ``[N, 1]``; fillers get the value of padding."""
        row, column = self._cells
        return ids[row, column.clamp(max=ids.shape[1] - 1)][:, None]

    def pack(self, x: Tensor) -> Tensor:
        """``[B, L, C]`` to ``[N, 1, C]``, differentiable; fillers are zeros."""
        out: Tensor = _Rearrange.apply(x, self._pack, self._unpack)  # type: ignore[no-untyped-call]
        return out

    def unpack(self, x: Tensor) -> Tensor:
        """``[N, 1, C]`` to ``[B, L, C]``, differentiable; padding is zeros."""
        out: Tensor = _Rearrange.apply(x, self._unpack, self._pack)  # type: ignore[no-untyped-call]
        return out

    def _pack(self, x: Tensor) -> Tensor:
        """``pack`` without gradients."""
        if self.is_full:
            return x.reshape(-1, 1, x.shape[-1])
        out = x.new_zeros(self.num_tokens + 1, x.shape[-1])
        tokens = self._places[:, : x.shape[1]].flatten()
        out.index_copy_(0, tokens.masked_fill(~self._tokens.flatten(), self.num_tokens), x.reshape(-1, x.shape[-1]))
        return out[:-1, None]

    def _unpack(self, x: Tensor) -> Tensor:
        """``unpack`` without gradients."""
        b, length = self.is_token.shape
        if self.is_full:
            return x.view(b, length, -1)
        tokens = self._places[:, :length].flatten().clamp(max=self.num_tokens - 1)
        return x[:, 0].index_select(0, tokens).view(b, length, -1).masked_fill_(~self._tokens[:, :, None], 0)

    def split_heads(self, tokens: Tensor, num_heads: int, width: int) -> Tensor:
        """``[N, P·H·width]`` to ``[P, BH, T, width]`` in the grid; padding gets the value of a filler."""
        b, t = self.grid
        parts = tokens.shape[1] // (num_heads * width)
        if self.is_dense:
            heads = tokens.view(b, t, parts, num_heads, width).permute(2, 0, 3, 1, 4)
        else:
            if self._needs_zero_row:
                tokens = F.pad(tokens, (0, 0, 0, 1))
            heads = tokens.reshape(-1, width).index_select(0, self._index("split", parts, num_heads))
        return heads.reshape(parts, b * num_heads, t, width)

    def merge_heads(self, heads: Tensor, num_heads: int) -> Tensor:
        """The inverse of ``split_heads``: ``[P, BH, T, width]`` to ``[N, P·H·width]``."""
        parts, _, t, width = heads.shape
        if self.is_dense:
            tokens = heads.view(parts, self.grid[0], num_heads, t, width).permute(1, 3, 0, 2, 4)
        else:
            tokens = heads.view(-1, width).index_select(0, self._index("merge", parts, num_heads))
        return tokens.reshape(-1, parts * num_heads * width)

    @cached_property
    def _needs_zero_row(self) -> bool:
        return int(self._packed_index.max()) == self.num_tokens

    def _index(self, way: str, parts: int, num_heads: int) -> Tensor:
        """The gather index over (token, head) of ``split_heads`` and ``merge_heads``."""
        key = (way, parts, num_heads)
        if key not in self._indices:
            b, t = self.grid
            part = torch.arange(parts, device=self.device)[:, None]
            head = torch.arange(num_heads, device=self.device)
            if way == "split":
                index = (self._places[:, None] * parts + part[..., None, None]) * num_heads + head[:, None]
            else:
                row, column = (cell[:, None, None] for cell in self._cells)
                index = ((part * b + row) * num_heads + head) * t + column
            self._indices[key] = index.flatten()
        return self._indices[key]

    def attention_bias(self, num_heads: int, dtype: torch.dtype, window: int | None = None) -> Tensor | None:
        """What is added to attention scores to hide padding and tokens more than ``window`` apart.

        Returns:
            ``[BH, T, T]`` (without a window, expanded from ``[BH, 1, T]``), or None if nothing is hidden.
        """
        key = (num_heads, dtype, self._window(window))
        if key not in self._biases:
            self._biases[key] = self._bias(*key)
        return self._biases[key]

    def _bias(self, num_heads: int, dtype: torch.dtype, window: int | None) -> Tensor | None:
        b, t = self.grid
        if window is None and not self.is_masked:
            return None
        hidden = ~self.key_mask[:, None, None]
        if window is not None:
            hidden = hidden | self.outside_window(window)
            hidden &= ~hidden.all(-1, keepdim=True)  # padding outside every window attends to everything
        bias = torch.zeros(hidden.shape, dtype=dtype, device=self.device).masked_fill_(hidden, torch.finfo(dtype).min)
        return bias.expand(-1, num_heads, -1, -1).reshape(b * num_heads, -1, t).expand(-1, t, -1)

    def attention_mask(self, window: int | None = None) -> Tensor | None:
        """True where a token may attend, ``[B, 1, 1, T]``, with a window ``[B, 1, T, T]``; None if all may."""
        window = self._window(window)
        seen = self.key_mask[:, None, None] if self.is_masked else None
        if window is None:
            return seen
        near = ~self.outside_window(window) if seen is None else seen & ~self.outside_window(window)
        return near | ~near.any(-1, keepdim=True)

    def outside_window(self, window: int) -> Tensor:
        """True where two positions of the grid are more than ``window`` apart, ``[T, T]``."""
        places = torch.arange(self.grid[1], device=self.device)
        return (places[:, None] - places).abs() > window

    def _window(self, window: int | None) -> int | None:
        """The window, or None if no text is longer than it."""
        return None if window is None or self.is_token.shape[1] <= window + 1 else window

    @property
    def is_masked(self) -> bool:
        """Whether attention gets a mask. Always with ``keep_padding``, so that operations depend on the shape only."""
        return self.keep_padding or not self.is_dense


def _packed_sizes(lengths: Sequence[int], runs: Sequence[int]) -> list[int]:
    """The packed tokens of each text: a run's fillers count towards its last text, the batch's towards its last."""
    sizes, start = list(lengths), 0
    for num_texts in runs:
        own = lengths[start : start + num_texts]
        start += num_texts
        sizes[start - 1] += run_size(own) - sum(own)
    if len(set(lengths)) > 1:
        sizes[-1] += bucket_size(sum(sizes)) - sum(sizes)
    return sizes


class _Rearrange(torch.autograd.Function):
    """A differentiable rearrangement of numbers: ``backward`` undoes ``forward`` for the gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, forward: Rearrangement, backward: Rearrangement) -> Tensor:
        ctx.backward = backward
        return forward(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return ctx.backward(grad), None, None
