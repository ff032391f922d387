"""A table of rows, read or to be written, whose rows know their line in the file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from polytask.errors import DataError

PathLike = str | os.PathLike[str]
Cell = Any
"""A string in CSV and TSV; in JSON lines and Parquet any plain Python value, ``None`` where there is none."""

Row = Sequence[Cell]


@dataclass(frozen=True)
class Column:
    """One column of a table, which knows where its cells stand."""

    file: str
    name: str
    cells: Sequence[Cell]
    lines: Sequence[int]

    def error(self, row: int, problem: str, fix: str | None = None) -> DataError:
        """The error that says what is wrong with the cell in this row (counted from 0)."""
        return DataError(problem, file=self.file, line=self.lines[row], column=self.name, fix=fix)


@dataclass(frozen=True)
class Table:
    """The rows of a file, in order. Every row has as many cells as ``header``; ``lines`` says where it starts.

    Names in ``header`` occur once each, except the empty name of columns that have none. ``classes`` has, by column,
    the names of its classes in the order of their indices, where the file tells them.
    """

    file: str
    header: tuple[str, ...]
    rows: Sequence[Row]
    lines: Sequence[int]
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, index: int) -> Column:
        """The column at this index."""
        return Column(self.file, self.header[index], [row[index] for row in self.rows], self.lines)

    def take(self, rows: Sequence[int]) -> Table:
        """These rows only, in this order."""
        return replace(self, rows=[self.rows[row] for row in rows], lines=[self.lines[row] for row in rows])

    def without_blank(self) -> Table:
        """Only the rows that have something in a cell.

        Raises:
            DataError: there are none.
        """
        kept = [row for row, cells in enumerate(self.rows) if any(cell not in ("", None) for cell in cells)]
        if not kept:
            raise DataError("there are no rows, only column names", file=self.file, fix="Add at least one row")
        return self if len(kept) == len(self) else self.take(kept)


def named(cell: Cell, names: Sequence[str]) -> Cell:
    """The name of a class for its index, ``None`` for -1, which stands for an unknown one; other cells as they are."""
    if isinstance(cell, list):
        return [named(each, names) for each in cell]
    if not isinstance(cell, int) or isinstance(cell, bool) or cell >= len(names):
        return cell
    return names[cell] if cell >= 0 else None
