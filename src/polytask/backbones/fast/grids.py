"""Two grids for the attention of one batch, so that short texts are not padded to the length of the longest one.

Texts of unequal lengths are halved by length, and each half has a grid of its own. The tokens stay where they are: both
halves are gathered from the whole batch, as one grid would be, and their outputs go back in one gather. The halves are
of fixed sizes, because a matrix product of a size that is new to torch takes many times as long.

Shapes: as in ``packing``; ``C`` is the width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from polytask.packing import Packing

LARGEST_SHARE = 0.85
"""Texts are halved if the two grids have at most this share of one grid's scores."""


class GridOfTexts(Packing):
    """The grid of some texts of a packed batch.

    Args:
        whole: the batch.
        texts: the numbers of the texts.
    """

    def __init__(self, whole: Packing, texts: Tensor) -> None:
        is_token = whole.is_token[texts]
        super().__init__(is_token[:, : int(is_token.any(0).nonzero().max()) + 1])
        self.num_tokens = whole.num_tokens
        self._packed_index = whole._packed_index[texts, : self.grid[1]]

    @property
    def is_dense(self) -> bool:
        """False: the tokens are always gathered, because they are those of the whole batch."""
        return False

    @property
    def num_scores(self) -> int:
        """The number of attention scores of a head."""
        return self.grid[0] * self.grid[1] ** 2


class Grids:
    """The grids of a batch.

    Attributes:
        parts: two halves, or the batch itself.
    """

    def __init__(self, packing: Packing, num_heads: int) -> None:
        self.parts: Sequence[Packing] = _halves(packing) or (packing,)
        self.num_heads, self.num_tokens = num_heads, packing.num_tokens
        self._cells = self._cell_of_tokens() if len(self.parts) > 1 else None

    def _cell_of_tokens(self) -> Tensor:
        """For each token and head the row of the parts' concatenated outputs, ``[N·H]``; fillers get the first."""
        cells, start, heads = torch.zeros(self.num_tokens, self.num_heads, dtype=torch.long), 0, self.num_heads
        for part in self.parts:
            (b, t), (text, column) = part.grid, part.is_token.nonzero(as_tuple=True)
            of_heads = (text[:, None] * heads + torch.arange(heads)) * t + column[:, None]
            cells[part._packed_index[text, column]] = start + of_heads
            start += b * heads * t
        return cells.flatten()

    def merge(self, heads: Sequence[Tensor]) -> Tensor:
        """The outputs of the parts, ``[BH, T, C]`` each, to ``[N, H·C]``."""
        if self._cells is None:
            return self.parts[0].merge_heads(heads[0][None], self.num_heads)
        rows = torch.cat([part.flatten(0, 1) for part in heads])
        return rows.index_select(0, self._cells).view(self.num_tokens, -1)


def _halves(packing: Packing) -> list[GridOfTexts]:
    """The shorter and the longer half of a batch's texts; none if that saves little, or on a GPU."""
    b, t = packing.grid
    if packing.device.type != "cpu" or packing.keep_padding or packing.is_full or b < 2:
        return []
    order = packing.is_token.sum(1).argsort(stable=True)
    halves = [GridOfTexts(packing, texts) for texts in (order[: b // 2], order[b // 2 :])]
    return halves if sum(half.num_scores for half in halves) <= LARGEST_SHARE * b * t**2 else []
