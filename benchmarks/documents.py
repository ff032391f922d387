"""Replaces the tables of a document that scripts write, each between ``<!-- KIND: NAME -->`` and ``<!-- end -->``."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from polytask.files import write_text


def tables_of(kind: str) -> re.Pattern[str]:
    """A pattern that finds every table of a kind, with its ``name``."""
    return re.compile(rf"<!-- {kind}: (?P<name>\S+) -->\n.*?<!-- end -->", re.DOTALL)


def with_tables(text: str, kind: str, tables: Mapping[str, Callable[[], str]]) -> str:
    """The text with every table of a kind replaced; a name without a table ends the program."""

    def block(found: re.Match[str]) -> str:
        name = found["name"]
        if name not in tables:
            sys.exit(f"no table is called {name!r}. There are: {', '.join(tables)}")
        return f"<!-- {kind}: {name} -->\n{tables[name]()}\n<!-- end -->"

    return tables_of(kind).sub(block, text)


def rewrite(doc: str | None, document: Callable[[str, Path], str], path: str, results: str) -> None:
    """Be the command line of a script that writes the tables of one document.

    Args:
        doc: the script's description.
        document: gives the new text for the old one and the folder of results.
        path, results: the document and the folder by default.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("document", type=Path, nargs="?", default=Path(path))
    parser.add_argument("--results", type=Path, default=Path(results))
    args = parser.parse_args()
    write_text(args.document, document(args.document.read_text(encoding="utf-8"), args.results))
