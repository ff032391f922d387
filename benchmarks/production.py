"""Writes the tables of docs/production.md from the results of the benchmarks, so that no figure there is typed by hand.

A table is between ``<!-- results: NAME -->`` and ``<!-- end -->``, where NAME is a folder of results/ and the benchmark
that fills it. Text outside the tables is written by hand and is not changed.

    python benchmarks/production.py
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import calibration
import few_shot
import long_documents
import out_of_scope
import rare_classes
from documents import rewrite, tables_of, with_tables

BLOCK = tables_of("results")
TABLES: dict[str, Callable[[Path], Iterator[str]]] = {
    "calibration": calibration.table,
    "few_shot": few_shot.table,
    "few_shot_recipes": few_shot.table,
    "long_documents": long_documents.table,
    "out_of_scope": out_of_scope.table,
    "rare_classes": rare_classes.table,
}


def document(text: str, results: Path) -> str:
    """The text with every table replaced."""
    return with_tables(text, "results", {name: partial(body, results / name, rows) for name, rows in TABLES.items()})


def body(folder: Path, rows: Callable[[Path], Iterator[str]]) -> str:
    """The table of a folder of results."""
    return "\n".join(rows(folder)) if folder.is_dir() else "Not measured yet."


if __name__ == "__main__":
    rewrite(__doc__, document, "docs/production.md", "results")
