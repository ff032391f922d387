"""Draw the tables of docs/performance.md from the CSVs, so that no figure there is typed by hand.

A table stands between ``<!-- results/….csv: column, column -->`` and ``<!-- end -->``.

    python benchmarks/report.py docs/performance.md
"""

from __future__ import annotations

import csv
import re
import sys
from pathlib import Path

from polytask.atomic import write_text

BLOCK = re.compile(r"<!-- (?P<file>\S+\.csv): (?P<columns>.+?) -->\n.*?<!-- end -->", re.DOTALL)


def drawn(block: re.Match[str]) -> str:
    """The block with its table as the CSV has it now."""
    columns = block["columns"].split(", ")
    with open(block["file"], newline="", encoding="utf-8") as file:
        rows = [[row[column] for column in columns] for row in csv.DictReader(file)]
    heads = [column.replace("_", " ") for column in columns]
    lines = [heads, ["---"] * len(heads), *rows]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return f"<!-- {block['file']}: {block['columns']} -->\n{table}\n<!-- end -->"


def main() -> None:
    """Draw the tables of one document anew, from the repository's root."""
    document = Path(sys.argv[1])
    write_text(document, BLOCK.sub(drawn, document.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
