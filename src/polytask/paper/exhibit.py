"""What every exhibit has: a name, what the paper says, its numbers, a sentence about them, and perhaps a drawing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polytask.paper.ledger import Entry
from polytask.paper.table import Table, table_of_rows

Entries = Sequence[Entry]
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Exhibit:
    """A table or a figure. Its functions take entries and raise ``NothingToShow`` if these do not suffice.

    Attributes:
        name: on the command line and of its files.
        title: above it.
        in_paper: what the paper says.
        rows: its numbers.
        reading: what the numbers say, in a sentence or two.
        draw: writes the figure; None for tables.
        own_table: a table with footnotes on samples, caps and contamination; without one the rows are shown.
        missing: what it lacks, in sentences.
        plan: the name of its plan in an edition, if it is not ``name``.
    """

    name: str
    title: str
    in_paper: str
    rows: Callable[[Entries], Rows]
    reading: Callable[[Entries], str]
    draw: Callable[[Entries, Path], None] | None = None
    own_table: Callable[[Entries], Table] | None = None
    missing: Callable[[Entries], list[str]] = lambda entries: []
    plan: str = ""

    def table(self, entries: Entries) -> Table:
        """The exhibit as a table."""
        return self.own_table(entries) if self.own_table else table_of_rows(self.title, self.rows(entries))


def grouped(rows: Iterable[dict[str, Any]], name: str) -> dict[Any, Rows]:
    """The rows by their value of ``name``, in order of appearance."""
    groups: dict[Any, Rows] = {}
    for row in rows:
        groups.setdefault(row[name], []).append(row)
    return groups
