"""What every table and figure of results has: a title, its numbers, a sentence about them, and perhaps a drawing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from polytask.drawing.table import Table, table_of_rows
from polytask.errors import PolytaskError


class NothingToShow(PolytaskError):
    """The results do not suffice for an exhibit; the message says what is missing."""


@dataclass(frozen=True)
class Exhibit:
    """A table or a figure. All but ``measure`` are functions of its rows.

    Attributes:
        name: on the command line and of its files.
        title: above it.
        in_paper: what the paper says.
        needs: what the results lack if there are no rows.
        columns: of its rows that are shown.
        measure: its rows, from the runs (a table with a row for each).
        reading: what the rows say, in a sentence or two.
        draw: writes the figure; None for tables.
        own_table: a table with footnotes on samples, caps and contamination; without one the rows are shown.
        missing: what it lacks, in sentences.
        plan: the name of the plan whose trials it shows, if it is not ``name``.
    """

    name: str
    title: str
    in_paper: str
    needs: str
    columns: tuple[str, ...]
    measure: Callable[[pd.DataFrame], pd.DataFrame]
    reading: Callable[[pd.DataFrame], str]
    draw: Callable[[pd.DataFrame, Path], None] | None = None
    own_table: Callable[[pd.DataFrame], Table] | None = None
    missing: Callable[[pd.DataFrame], list[str]] = lambda rows: []
    plan: str = ""

    def rows(self, runs: pd.DataFrame) -> pd.DataFrame:
        """Its numbers.

        Raises:
            NothingToShow: the runs do not suffice.
        """
        rows = self.measure(runs)
        if rows.empty:
            raise NothingToShow(self.needs)
        return rows

    def records(self, rows: pd.DataFrame) -> list[dict[str, Any]]:
        """What is shown of the rows, as dicts with None for what is missing and for a size of 0."""
        own = rows[list(self.columns)]
        shown = own.astype(object).where(own.notna(), None).to_dict("records")
        return [{**row, "size": row["size"] or None} if "size" in row else row for row in shown]

    def table(self, rows: pd.DataFrame) -> Table:
        """The exhibit as a table."""
        return self.own_table(rows) if self.own_table else table_of_rows(self.title, self.records(rows))


def grouped(rows: pd.DataFrame, name: str) -> dict[Any, pd.DataFrame]:
    """The rows by their value of ``name``, in order of appearance."""
    return dict(list(rows.groupby(name, sort=False)))
