"""Names, texts and numbers as the page shows them: on one line, cut, without characters that act on what is around."""

from __future__ import annotations

from collections.abc import Sequence

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


def counted(number: int, noun: str) -> str:
    """``1 row``, ``3 rows``, ``2,000 rows``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


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
