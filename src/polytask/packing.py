"""A batch's texts without their padding: tokens under each other, and the grid where texts must stand apart.

Most of a transformer does not know which text a token is of, so it need not compute what pads the short ones; only
attention works on a grid. A run is what is computed together for one owner (a job's rows, or all): where its texts
differ in length it is filled up to one of few sizes, since a matrix product of a size not met before takes many times
as long. Fillers are tokens that nobody reads: whatever they become, their gradients are zeros.

``B`` texts, ``L`` tokens of the longest, ``T`` tokens a row of the grid, ``N`` tokens packed, ``C`` numbers each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

Move = Callable[[Tensor], Tensor]


def run_size(lengths: Sequence[int]) -> int:
    """The tokens of a run with its fillers: at most one in 32 more (or seven) than these texts have."""
    total = sum(lengths)
    return total if len(set(lengths)) == 1 else few_sizes(total)


def few_sizes(total: int) -> int:
    """A number of tokens rounded up to one of 32 between a power of two and the next, or to a multiple of 8."""
    step = max(8, 1 << max(total.bit_length() - 6, 0))
    return -(-total // step) * step


def grid_width(num_tokens: int) -> int:
    """``T`` for texts of so many tokens: up to a multiple of 16, unless there are but few tokens more than one.

    Torch's bf16 softmax takes the last numbers of a row one by one, up to three times as long for 15 of them as for a
    row of 16 more (benchmarks/sizes.py).
    """
    whole = num_tokens // 16 * 16
    return num_tokens if whole and num_tokens - whole <= 4 else -(-num_tokens // 16) * 16


class Packing:
    """Where the tokens of texts are, packed and in the grid.

    Args:
        mask: 1 on tokens and 0 on padding, ``[B, L]``.
        runs: the texts of each run, in their order; one run unless given.
        is_whole: leave the padding in, so that the shapes of all operations follow from ``B`` and ``L`` alone.

    Attributes:
        sizes: the packed tokens of each text, the fillers of a run counted to its last.
        grid: ``B`` and ``T``.
        seen: what attention may look at, ``[B, T]``.
        is_whole: as given.
        kept: what layers compute once for the batch, such as the rotations of its positions.
    """

    def __init__(self, mask: Tensor, runs: Sequence[int] | None = None, *, is_whole: bool = False) -> None:
        self.grid = (len(mask), grid_width(mask.shape[1]))
        self.seen = F.pad(mask.bool(), (0, self.grid[1] - mask.shape[1]))
        self.is_token = torch.ones_like(mask, dtype=torch.bool) if is_whole else mask.bool()
        self.is_whole = is_whole
        self.is_full = is_whole or bool(self.is_token.all())
        self.sizes: tuple[int, ...] = tuple(_filled(self.is_token.sum(1).tolist(), runs or [len(mask)]))
        self.num_tokens = sum(self.sizes)
        self._biases: dict[tuple[int, torch.dtype, int | None], Tensor | None] = {}
        self.kept: dict[object, Any] = {}
        self._indices: dict[tuple[str, int, int], Tensor] = {}

    @property
    def is_dense(self) -> bool:
        """Whether the grid is full of tokens, so that it is the packed tokens."""
        return self.is_full and self.is_token.shape[1] == self.grid[1]

    @cached_property
    def _tokens(self) -> Tensor:
        """The packed number of each token, ``[B, T]``; for padding that of a filler, or ``N`` where there is none."""
        starts = torch.tensor([0, *self.sizes[:-1]]).cumsum(0)
        ends = starts + self.is_token.sum(1)
        has_fillers = ends < starts + torch.tensor(self.sizes)
        padding = int(ends[has_fillers][0]) if bool(has_fillers.any()) else self.num_tokens
        tokens = (starts[:, None] + self.is_token.cumsum(1) - 1).masked_fill_(~self.is_token, padding)
        return F.pad(tokens, (0, self.grid[1] - tokens.shape[1]), value=padding)

    @cached_property
    def _cells(self) -> tuple[Tensor, Tensor]:
        """The row and the column in the grid of each packed token, ``[N]``; for fillers those of padding."""
        is_token = F.pad(self.is_token, (0, self.grid[1] - self.is_token.shape[1]))
        padding = int(is_token.flatten().logical_not().int().argmax())
        cells = torch.full((self.num_tokens,), padding)
        cells[self._tokens[is_token]] = is_token.flatten().nonzero().squeeze(1)
        return cells // self.grid[1], cells % self.grid[1]

    def read(self, ids: Tensor) -> Tensor:
        """``[B, L]`` to ``[N, 1]``; fillers are as padding."""
        row, column = self._cells
        return ids[row, column.clamp(max=ids.shape[1] - 1)][:, None]

    def pack(self, x: Tensor) -> Tensor:
        """``[B, L, C]`` to ``[N, 1, C]``, with gradients; fillers are zeros."""
        out: Tensor = _Moved.apply(x, self.packed, self.unpacked)  # type: ignore[no-untyped-call]
        return out

    def unpack(self, x: Tensor) -> Tensor:
        """``[N, 1, C]`` to ``[B, L, C]``, with gradients; padding is zeros."""
        out: Tensor = _Moved.apply(x, self.unpacked, self.packed)  # type: ignore[no-untyped-call]
        return out

    def packed(self, x: Tensor) -> Tensor:
        """As ``pack``, without gradients."""
        if self.is_full:
            return x.reshape(-1, 1, x.shape[-1])
        out = x.new_zeros(self.num_tokens + 1, x.shape[-1])
        tokens = self._tokens[:, : x.shape[1]].flatten()
        out.index_copy_(0, tokens.masked_fill(~self.is_token.flatten(), self.num_tokens), x.reshape(-1, x.shape[-1]))
        return out[:-1, None]

    def unpacked(self, x: Tensor) -> Tensor:
        """As ``unpack``, without gradients."""
        b, length = self.is_token.shape
        if self.is_full:
            return x.view(b, length, -1)
        tokens = self._tokens[:, :length].flatten().clamp(max=self.num_tokens - 1)
        return x[:, 0].index_select(0, tokens).view(b, length, -1).masked_fill_(~self.is_token[:, :, None], 0)

    def apart(self, tokens: Tensor, num_heads: int, width: int) -> Tensor:
        """Heads in the grid: ``[N, P·H·width]`` to ``[P, BH, T, width]``; padding is as a filler."""
        b, t = self.grid
        parts = tokens.shape[1] // (num_heads * width)
        if self.is_dense:
            heads = tokens.view(b, t, parts, num_heads, width).permute(2, 0, 3, 1, 4)
        else:
            if self._needs_zeros:
                tokens = F.pad(tokens, (0, 0, 0, 1))
            heads = tokens.reshape(-1, width).index_select(0, self._index("apart", parts, num_heads))
        return heads.reshape(parts, b * num_heads, t, width)

    def together(self, heads: Tensor, num_heads: int) -> Tensor:
        """The inverse of ``apart``; fillers are as padding."""
        parts, _, t, width = heads.shape
        if self.is_dense:
            tokens = heads.view(parts, self.grid[0], num_heads, t, width).permute(1, 3, 0, 2, 4)
        else:
            tokens = heads.view(-1, width).index_select(0, self._index("together", parts, num_heads))
        return tokens.reshape(-1, parts * num_heads * width)

    @cached_property
    def _needs_zeros(self) -> bool:
        return int(self._tokens.max()) == self.num_tokens

    def _index(self, way: str, parts: int, num_heads: int) -> Tensor:
        """Which head of which token comes next: in the grid (``apart``), or packed (``together``)."""
        key = (way, parts, num_heads)
        if key not in self._indices:
            b, t = self.grid
            part, head = torch.arange(parts)[:, None], torch.arange(num_heads)
            if way == "apart":
                index = (self._tokens[:, None] * parts + part[..., None, None]) * num_heads + head[:, None]
            else:
                row, column = (cell[:, None, None] for cell in self._cells)
                index = ((part * b + row) * num_heads + head) * t + column
            self._indices[key] = index.flatten()
        return self._indices[key]

    def bias(self, num_heads: int, dtype: torch.dtype, window: int | None = None) -> Tensor | None:
        """What makes scores vanish of padding, and of tokens more than ``window`` apart; None where there is nothing.

        ``[BH, T, T]``, without a window expanded from ``[BH, 1, T]``.
        """
        key = (num_heads, dtype, self._window(window))
        if key not in self._biases:
            self._biases[key] = self._bias(*key)
        return self._biases[key]

    def _bias(self, num_heads: int, dtype: torch.dtype, window: int | None) -> Tensor | None:
        b, t = self.grid
        if window is None and not self.is_masked:
            return None
        is_hidden = ~self.seen[:, None, None].expand(b, num_heads, 1, t).reshape(-1, 1, t)
        if window is not None:
            is_hidden = is_hidden | self.far(window)
            is_hidden &= ~is_hidden.all(-1, keepdim=True)  # padding beyond every window looks at everything
        bias = torch.zeros(is_hidden.shape, dtype=dtype).masked_fill_(is_hidden, torch.finfo(dtype).min)
        return bias.expand(-1, t, -1)

    def visible(self, window: int | None = None) -> Tensor | None:
        """True where a token may look, ``[B, 1, 1, T]`` or with a window ``[B, 1, T, T]``; None where all may."""
        window = self._window(window)
        seen = self.seen[:, None, None] if self.is_masked else None
        if window is None:
            return seen
        near = ~self.far(window) if seen is None else seen & ~self.far(window)
        return near | ~near.any(-1, keepdim=True)

    def far(self, window: int) -> Tensor:
        """Which tokens of a row of the grid are more than ``window`` apart, ``[T, T]``."""
        places = torch.arange(self.grid[1])
        return (places[:, None] - places).abs() > window

    def _window(self, window: int | None) -> int | None:
        """A window, unless no text is longer: padding sees what it likes."""
        return None if window is None or self.is_token.shape[1] <= window + 1 else window

    @property
    def is_masked(self) -> bool:
        """Whether attention has something not to look at. Always so where padding is left in: the same operations."""
        return self.is_whole or not self.is_dense


def _filled(lengths: Sequence[int], runs: Sequence[int]) -> list[int]:
    """The tokens of each text, fillers of a run counted to its last, and those of them all to the last of all."""
    sizes, start = list(lengths), 0
    for num_texts in runs:
        own = lengths[start : start + num_texts]
        start += num_texts
        sizes[start - 1] += run_size(own) - sum(own)
    if len(set(lengths)) > 1:
        sizes[-1] += few_sizes(sum(sizes)) - sum(sizes)
    return sizes


class _Moved(torch.autograd.Function):
    """A way of moving numbers, and the way back for their gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, there: Move, back: Move) -> Tensor:
        ctx.back = back
        return there(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return ctx.back(grad), None, None
