"""Writes the tables of docs/production.md from the results of the benchmarks, so that no figure there is typed by hand.

A table is between ``<!-- results: NAME -->`` and ``<!-- end -->``, where NAME is a folder of results/ and the benchmark
that fills it. Text outside the tables is written by hand and is not changed.

    python benchmarks/production.py
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import calibration
import few_shot
import long_documents
import out_of_scope
import rare_classes
from polytask.files import write_text

BLOCK = re.compile(r"<!-- results: (?P<name>\S+) -->\n.*?<!-- end -->", re.DOTALL)
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

    def block(found: re.Match[str]) -> str:
        name = found["name"]
        if name not in TABLES:
            sys.exit(f"no table is called {name!r}. There are: {', '.join(TABLES)}")
        body = "\n".join(TABLES[name](results / name)) if (results / name).is_dir() else "Not measured yet."
        return f"<!-- results: {name} -->\n{body}\n<!-- end -->"

    return BLOCK.sub(block, text)


def main() -> None:
    """Replace the tables of one document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("document", type=Path, nargs="?", default=Path("docs/production.md"))
    parser.add_argument("--results", type=Path, default=Path("results"))
    args = parser.parse_args()
    write_text(args.document, document(args.document.read_text(encoding="utf-8"), args.results))


if __name__ == "__main__":
    main()
