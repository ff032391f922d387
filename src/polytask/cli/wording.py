"""Numbers, sizes, times, methods and metrics as short texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from polytask.errors import printable
from polytask.wording import counted as counted


def bytes_in_words(size_bytes: float) -> str:
    """``4.8 MB`` for 4,800,000."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes:.0f} B"


def seconds_in_words(seconds: float) -> str:
    """``8.3 s``, ``52 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def shortened(text: str, longest: int) -> str:
    """The text on one line, cut at ``longest`` characters."""
    text = printable(" ".join(text[: 8 * longest].split()))
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def method_in_words(method: Mapping[str, Any]) -> str:
    """``houlsby, size 64``: the name and its size, rank or number of layers."""
    name, *settings = method.items()
    shown = [f"{key} {value}" for key, value in settings if key in ("size", "rank", "n")]
    return ", ".join([str(name[1]), *shown])


def metric_in_words(metric: str, labels: Sequence[str]) -> str:
    """``f1 of 'spam'`` for f1 with two labels, which scores the positive one; otherwise the metric's name."""
    return f"f1 of {shortened(labels[1], 24)!r}" if metric == "f1" and len(labels) == 2 else metric
