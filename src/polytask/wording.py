"""Numbers and lists in words."""

from __future__ import annotations

import math
from collections.abc import Sequence


def counted(number: int, noun: str) -> str:
    """``1 row``, ``3 rows``, ``2,000 rows``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def listed(names: Sequence[str], word: str = "and") -> str:
    """``a, b and c``."""
    return f"{', '.join(names[:-1])} {word} {names[-1]}" if len(names) > 1 else "".join(names)


def and_so_on(names: Sequence[str], most: int) -> str:
    """``a, b and 3 more``."""
    return listed(names if len(names) <= most else [*names[:most], f"{len(names) - most} more"])


def signed(value: float) -> str:
    """``−1.30``, ``+0.20``."""
    return f"{value:+.2f}".replace("-", "−")


def apart(points: float, other: str = "") -> str:
    """``0.4 points behind full fine-tuning``, ``level with full fine-tuning``."""
    if math.isnan(points):
        return f"not to be compared with {other}" if other else "not to be compared"
    size = f"{abs(points):.1f}"
    if size == "0.0":
        return f"level with {other}" if other else "level"
    direction = "behind" if points < 0 else "ahead of" if other else "ahead"
    return f"{size} {'point' if size == '1.0' else 'points'} {direction} {other}".rstrip()


def points_in_words(mean: float, interval: tuple[float, float] | None) -> str:
    """``−1.30 points (95% interval −2.31 to −0.42)``."""
    within = f" (95% interval {signed(interval[0])} to {signed(interval[1])})" if interval else ""
    return f"{signed(mean)} points{within}"
