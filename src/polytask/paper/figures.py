"""Drawings, written whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from polytask.atomic import whole_file
from polytask.errors import PolytaskError

FORMATS = (".png", ".pdf", ".svg")
MOST_NUMBERS = 25
"""With more labels than this the numbers would not be legible, and the shades must do."""


def figure(path: str | Path, width: float, height: float) -> Any:
    """An empty matplotlib figure, in inches, that needs no screen.

    Raises:
        PolytaskError: matplotlib is not installed, or the file's ending is not one it is to write.
    """
    if Path(path).suffix.lower() not in FORMATS:
        raise PolytaskError(f"a figure cannot be written as {path}. End its name in {', '.join(FORMATS)}")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise PolytaskError('drawing needs matplotlib, which is not installed: pip install "polytask[paper]"') from None
    return Figure(figsize=(width, height), layout="constrained")


def draw_confusion(
    path: str | Path, labels: Sequence[str], confusion: Sequence[Sequence[int]], title: str = ""
) -> None:
    """Draw which labels are taken for which: rows are what is right, columns what was answered.

    Shades are shares of the row; numbers are rows of data.

    Raises:
        PolytaskError: as ``figure``.
    """
    side = min(14.0, 2.2 + 0.55 * len(labels))
    drawn = figure(path, side + 0.8, side)
    axes = drawn.subplots()
    shares = [[count / max(1, sum(row)) for count in row] for row in confusion]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = [_plain(label) for label in labels]
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("answered")
    axes.set_ylabel("right")
    axes.set_title(_plain(title, 80), fontsize=10)
    if len(labels) <= MOST_NUMBERS:
        for row, (counts, of_row) in enumerate(zip(confusion, shares, strict=True)):
            for column, (count, share) in enumerate(zip(counts, of_row, strict=True)):
                colour = "white" if share > 0.5 else "black"
                axes.text(column, row, f"{count:,}", ha="center", va="center", color=colour, fontsize=9)
    with whole_file(path) as part:
        drawn.savefig(part, format=Path(path).suffix.lower().removeprefix("."), dpi=150)


def _plain(text: str, longest: int = 24) -> str:
    """One line, not taken for a formula."""
    text = " ".join(text.split()).replace("$", r"\$")
    return text if len(text) <= longest else text[: longest - 1] + "…"
