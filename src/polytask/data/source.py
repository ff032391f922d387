"""Reads rows of texts and targets from the columns of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace

from polytask.data.answers import START_COLUMN, parse_answers
from polytask.data.columns import Roles, find_roles
from polytask.data.labels import is_empty, is_missing, parse_targets, split_label_lists
from polytask.data.table import Column, Table
from polytask.data.task import Kind, Rows
from polytask.errors import DataError

TITLE_COLUMN = "title"
"""The column with the title of the article that a context comes from."""


@dataclass(frozen=True)
class Source:
    """A table and the roles of its columns.

    Attributes:
        table: the rows.
        roles: which columns are the text, the second text and the label.
    """

    table: Table
    roles: Roles

    @property
    def names(self) -> tuple[str, str | None, str | None]:
        """The names of the text, second-text and label columns; None where there is no such column."""
        text, pair, label = (None if at is None else self.table.header[at] for at in astuple(self.roles))
        assert text is not None
        return text, pair, label

    @property
    def label(self) -> Column:
        """The label column."""
        assert self.roles.label is not None
        return self.table.column(self.roles.label)

    def for_table(self, table: Table) -> Source:
        """Find the columns with the same names in another table.

        Raises:
            DataError: one of them is missing.
        """
        text, pair, label = self.names
        return Source(table, find_roles(table, text=text, text_pair=pair, label=label))

    def without_empty(self, kind: Kind | None) -> Source:
        """Drop rows with an empty text, an empty second text or, unless ``kind`` is None, a missing label.

        Raises:
            DataError: no rows are left.
        """
        roles = self.roles
        needed = [self.table.column(at) for at in (roles.text, roles.pair) if at is not None]
        is_empty_row = [any(map(is_empty, cells)) for cells in zip(*(column.cells for column in needed))]
        if kind is not None:
            is_empty_row = [row or is_missing(cell, kind) for row, cell in zip(is_empty_row, self.label.cells)]
        if all(is_empty_row):
            raise DataError("no rows are left after dropping those with an empty text or label", file=self.table.file)
        return Source(self.table.take([row for row, empty in enumerate(is_empty_row) if not empty]), roles)

    def unlabelled_rows(self, *, keep_empty: bool = False) -> Rows:
        """Read the texts without targets.

        Args:
            keep_empty: return a missing text as an empty string instead of refusing it.

        Raises:
            DataError: a text is empty or not a string.
        """
        pair = None if self.roles.pair is None else _texts(self.table.column(self.roles.pair), keep_empty)
        lines = self.table.lines if list(self.table.lines) != list(range(1, len(self.table.lines) + 1)) else None
        return Rows(_texts(self.table.column(self.roles.text), keep_empty), pair, lines=lines)

    def labelled_rows(self, kind: Kind, labels: Sequence[str]) -> Rows:
        """Read the texts with their targets.

        Args:
            kind: the kind of task.
            labels: the label names, in the order of their indices.

        Raises:
            DataError: a text, label or answer is not valid.
        """
        rows = self.unlabelled_rows()
        if kind == "span":
            return replace(rows, targets=parse_answers(self.label, rows.pairs or (), self._named(START_COLUMN)))
        return replace(rows, targets=parse_targets(split_label_lists(self.label, kind), kind, labels))

    def articles(self) -> Sequence[str]:
        """Return the article of each row's context: its title, or the context itself without distinct titles.

        Rows with the same context get the same article, whatever their titles are.
        """
        assert self.roles.pair is not None
        contexts, titles = self.table.column(self.roles.pair).cells, self._named(TITLE_COLUMN)
        if titles is None or len(set(map(str, titles.cells))) < 2:
            return contexts
        of_context: dict[str, str] = {}
        return [of_context.setdefault(context, str(title)) for context, title in zip(contexts, titles.cells)]

    def _named(self, name: str) -> Column | None:
        """Return the column of this name, or None if it is missing or has a role."""
        at = self.table.header.index(name) if name in self.table.header else None
        return None if at is None or at in astuple(self.roles) else self.table.column(at)


def _texts(column: Column, keep_empty: bool) -> list[str]:
    for row, cell in enumerate(column.cells):
        if is_empty(cell):
            if keep_empty:
                continue
            more = sum(map(is_empty, column.cells)) - 1
            rest = f", and in {more:,} more row{'s' * (more > 1)}" if more else ""
            raise column.error(
                row,
                f"the text is empty{rest}",
                "Fill it in, or drop such rows with --drop-empty (drop_empty=True in Python)",
            )
        if not isinstance(cell, str):
            raise column.error(row, f"the text is not a string: {str(cell)[:60]}", "Put it in quotation marks")
    return ["" if is_empty(cell) else str(cell) for cell in column.cells] if keep_empty else list(column.cells)
