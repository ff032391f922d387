"""Names, texts and numbers as the page shows them: on one line, cut, without characters that act on what is around."""

from __future__ import annotations

from collections.abc import Sequence

from polytask.data.task import Rows
from polytask.errors import printable

MAX_NAME, MAX_TEXT = 48, 400
"""The most characters of a label's name and of a text."""


def named(label: str, longest: int = MAX_NAME) -> str:
    """A label's name on one line, cut, with control characters escaped."""
    return cut(label, longest)


def cut(text: str, longest: int = MAX_TEXT) -> str:
    """A text on one line, cut at ``longest`` characters, with control characters escaped."""
    line = printable(" ".join(text[: 4 * longest].split()))
    return line if len(line) <= longest and len(text) <= 4 * longest else line[: longest - 1].rstrip() + "…"


def listed(names: Sequence[str], most: int = 3) -> str:
    """``a, b, c and 4 more``."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest:,} more" if rest > 0 else "")


def percent(share: float) -> str:
    """``93.1%``."""
    return f"{share:.1%}"


def ranged(value: float, low: float, high: float) -> str:
    """``0.912 (0.883 to 0.940)``."""
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


METRICS = {
    "accuracy": "accuracy",
    "f1": "F1",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "matthews": "Matthews correlation",
    "pearson": "Pearson correlation",
    "spearman": "Spearman correlation",
    "span_f1": "F1 over words",
    "exact_match": "exact match",
    "mae": "mean absolute error",
    "rmse": "root mean squared error",
}
"""Names of metrics in words."""


def metric_in_words(metric: str, labels: Sequence[str] = ()) -> str:
    """The name of a metric; with two labels, F1 names the one that it is about."""
    words = METRICS.get(metric, metric)
    return f"{words} of {named(labels[1], 24)}" if metric == "f1" and len(labels) == 2 else words


def place(rows: Rows, row: int) -> str:
    """``line 8`` of the file that rows were read from, or ``row 7`` where there are no lines."""
    return f"{row_or_line(rows)} {number(rows, row):,}"


def row_or_line(rows: Rows) -> str:
    """What ``number`` counts: the heading of a column of such numbers."""
    return "row" if rows.lines is None else "line"


def number(rows: Rows, row: int) -> int:
    """The line of a row in its file, or its number, from 1."""
    return row + 1 if rows.lines is None else rows.lines[row]


def where(rows: Rows, row: int) -> dict[str, int]:
    """The same for JSON: ``row``, counted from 1, and ``line`` where there is one."""
    return {"row": row + 1, **({} if rows.lines is None else {"line": rows.lines[row]})}
