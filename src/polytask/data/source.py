"""A table together with the columns of it that are read: rows of texts and targets come out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace

from polytask.data.answers import STARTS, answers_of
from polytask.data.columns import Roles, find_roles
from polytask.data.labels import is_empty, is_missing, targets_of, with_lists
from polytask.data.table import Column, Table
from polytask.data.task import Kind, Rows
from polytask.errors import DataError

TITLES = "title"
"""The name of a column that says which article a context is of."""


@dataclass(frozen=True)
class Source:
    """A table and the roles of its columns."""

    table: Table
    roles: Roles

    @property
    def names(self) -> tuple[str, str | None, str | None]:
        """The names of the columns of texts, second texts and labels."""
        text, pair, label = (None if at is None else self.table.header[at] for at in astuple(self.roles))
        assert text is not None
        return text, pair, label

    @property
    def label(self) -> Column:
        """The column of labels."""
        assert self.roles.label is not None
        return self.table.column(self.roles.label)

    def like(self, table: Table) -> Source:
        """The columns of the same names in another table.

        Raises:
            DataError: one of them is not there.
        """
        text, pair, label = self.names
        return Source(table, find_roles(table, text=text, text_pair=pair, label=label))

    def without_empty(self, kind: Kind | None) -> Source:
        """Only the rows that have a text, a second text and, unless ``kind`` is ``None``, a label.

        Raises:
            DataError: there are none.
        """
        roles = self.roles
        needed = [self.table.column(at) for at in (roles.text, roles.pair) if at is not None]
        is_empty_row = [any(map(is_empty, cells)) for cells in zip(*(column.cells for column in needed))]
        if kind is not None:
            is_empty_row = [row or is_missing(cell, kind) for row, cell in zip(is_empty_row, self.label.cells)]
        if all(is_empty_row):
            raise DataError("no rows are left without those that have an empty text or label", file=self.table.file)
        return Source(self.table.take([row for row, empty in enumerate(is_empty_row) if not empty]), roles)

    def texts(self, *, keep_empty: bool = False) -> Rows:
        """The texts alone; with ``keep_empty`` those that are missing as empty strings.

        Raises:
            DataError: a text is empty or not a string.
        """
        pair = None if self.roles.pair is None else _texts(self.table.column(self.roles.pair), keep_empty)
        return Rows(_texts(self.table.column(self.roles.text), keep_empty), pair)

    def labelled(self, kind: Kind, labels: Sequence[str]) -> Rows:
        """The texts with their targets.

        Raises:
            DataError: as ``texts`` and ``targets_of`` or, of spans, ``answers_of``.
        """
        rows = self.texts()
        if kind == "span":
            return replace(rows, targets=answers_of(self.label, rows.pairs or (), self._named(STARTS)))
        return replace(rows, targets=targets_of(with_lists(self.label, kind), kind, labels))

    def articles(self) -> Sequence[str]:
        """What each row's context is a part of: what the column ``title`` says where there are several, or itself.

        Rows with one context have one article, whatever the title says.
        """
        assert self.roles.pair is not None
        contexts, titles = self.table.column(self.roles.pair).cells, self._named(TITLES)
        if titles is None or len(set(map(str, titles.cells))) < 2:
            return contexts
        of_context: dict[str, str] = {}
        return [of_context.setdefault(context, str(title)) for context, title in zip(contexts, titles.cells)]

    def _named(self, name: str) -> Column | None:
        """A column that has no role."""
        at = self.table.header.index(name) if name in self.table.header else None
        return None if at is None or at in astuple(self.roles) else self.table.column(at)


def _texts(column: Column, keep_empty: bool) -> list[str]:
    for row, cell in enumerate(column.cells):
        if is_empty(cell):
            if keep_empty:
                continue
            more = sum(map(is_empty, column.cells)) - 1
            problem = f"the text is empty, as in {more:,} more rows" if more else "the text is empty"
            raise column.error(row, problem, "Fill it in, or leave such rows out with --drop-empty")
        if not isinstance(cell, str):
            raise column.error(row, f"the text is not a string: {str(cell)[:60]}", "Put it between quotation marks")
    return ["" if is_empty(cell) else str(cell) for cell in column.cells] if keep_empty else list(column.cells)
