"""A table of rows with their line numbers, for error messages that say where a problem is."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from polytask.errors import DataError

PathLike = str | os.PathLike[str]
Cell = Any
"""A string in CSV and TSV; any plain Python value in JSON lines and Parquet, ``None`` for a missing one."""

Row = Sequence[Cell]


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        file: the file's name.
        name: the column's name.
        cells: one cell per row.
        lines: the line of each row, counted from 1.
    """

    file: str
    name: str
    cells: Sequence[Cell]
    lines: Sequence[int]

    def error(self, row: int, problem: str, fix: str | None = None) -> DataError:
        """Return an error about the cell in this row (counted from 0), with file, line and column."""
        return DataError(problem, file=self.file, line=self.lines[row], column=self.name, fix=fix)


@dataclass(frozen=True)
class Table:
    """The rows of a file, in order.

    Attributes:
        file: the file's name.
        header: the column names, each unique except the empty name of unnamed columns.
        rows: the rows, each with one cell per column.
        lines: the line on which each row starts, counted from 1.
        classes: the class names of a column in the order of their indices, where the file stores them.
    """

    file: str
    header: tuple[str, ...]
    rows: Sequence[Row]
    lines: Sequence[int]
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, index: int) -> Column:
        """Return the column at this index."""
        return Column(self.file, self.header[index], [row[index] for row in self.rows], self.lines)

    def take(self, rows: Sequence[int]) -> Table:
        """Return a table of these rows only, in this order."""
        return replace(self, rows=[self.rows[row] for row in rows], lines=[self.lines[row] for row in rows])

    def without_blank(self) -> Table:
        """Drop rows whose cells are all empty.

        Raises:
            DataError: no rows are left.
        """
        kept = [row for row, cells in enumerate(self.rows) if any(cell not in ("", None) for cell in cells)]
        if not kept:
            raise DataError("there are no rows, only column names", file=self.file, fix="Add at least one row")
        return self if len(kept) == len(self) else self.take(kept)


def class_name(cell: Cell, names: Sequence[str]) -> Cell:
    """Return the class name for an index, ``None`` for -1 (an unknown class), and any other cell unchanged."""
    if isinstance(cell, list):
        return [class_name(each, names) for each in cell]
    if not isinstance(cell, int) or isinstance(cell, bool) or cell >= len(names):
        return cell
    return names[cell] if cell >= 0 else None
