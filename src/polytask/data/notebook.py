"""HTML tables for notebooks, which display an object by its ``_repr_html_``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

LONGEST_CELL = 120


def html_table(caption: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """An HTML table with a caption. Cells are escaped, and long ones are truncated."""
    head = _row("th", header)
    body = "".join(_row("td", row) for row in rows)
    return f"<p>{escape(caption)}</p><table><thead>{head}</thead><tbody>{body}</tbody></table>"


def _row(tag: str, cells: Sequence[object]) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(_cut(str(cell)))}</{tag}>" for cell in cells) + "</tr>"


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_CELL else text[: LONGEST_CELL - 1] + "…"
