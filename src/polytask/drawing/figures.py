"""Figures, heat maps and the colours they share. Files are written whole or not at all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from polytask.errors import PolytaskError, printable
from polytask.files import whole_file

FORMATS = (".png", ".pdf", ".svg")
MAX_NUMBERED, MAX_NAMED = 25, 100
"""The most labels of a confusion matrix with numbers in its cells, and the most of which each is named."""

INK, MUTED, RULE = "#1f2328", "#59636e", "#d1d9e0"
"""The colours of text, of secondary text and of thin lines. A page may replace them in an SVG by its own."""

COLOURS = {"adapters": "#2f6fd0", "top": "#d4730b", "layernorm": "#2e9d55", "full": "#8250c4", "tfidf": "#8a8f98"}
"""By family of methods; legible on white and on black."""

PANELS = 1.8
"""A figure with a greater ratio of width to height has several panels, and scrolls on a narrow screen."""


def check_drawing() -> None:
    """Refuse to start if matplotlib is not installed.

    Raises:
        PolytaskError: matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise PolytaskError('drawing needs matplotlib, which is not installed: pip install "polytask[paper]"') from None


def figure(path: str | Path, width: float, height: float) -> Any:
    """An empty matplotlib figure that needs no screen; ``width`` and ``height`` are in inches.

    Raises:
        PolytaskError: matplotlib is not installed, or the file format is not supported.
    """
    if Path(path).suffix.lower() not in FORMATS:
        raise PolytaskError(f"a figure cannot be written as {path}. End its name in {', '.join(FORMATS)}")
    check_drawing()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def style_axes(axes: Any) -> None:
    """Thin lines on the left and below, a light grid behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(RULE)
    axes.tick_params(which="both", color=RULE, labelcolor=MUTED, labelsize=9)
    axes.grid(color=RULE, linewidth=0.6, alpha=0.7)
    axes.set_axisbelow(True)


def label_axes(axes: Any, title: str = "", x: str = "", y: str = "") -> None:
    """Set the title and the names of both axes."""
    axes.set_title(plain(title, 80), fontsize=10.5, color=INK, loc="left", pad=10)
    axes.set_xlabel(plain(x, 80), fontsize=9.5, color=INK)
    axes.set_ylabel(plain(y, 80), fontsize=9.5, color=INK)


def heat_map(
    axes: Any,
    values: Any,
    texts: Sequence[Sequence[str]] | None,
    *,
    names: tuple[Sequence[str], Sequence[str]],
    fontsize: float = 9,
    edge: str = "white",
    framed: Sequence[tuple[int, int]] = (),
    **look: Any,
) -> Any:
    """Shades of ``values`` (array [R, C], NaN for none), the first row on top, with a text in each cell.

    Args:
        names: those of the rows and of the columns.
        edge: the colour of the lines between cells, or ``none``.
        framed: cells (row, column) with a coloured frame.
        look: ``cmap``, ``vmin`` and ``vmax``, or ``norm``.

    Returns:
        The shades, for a colour bar.
    """
    import numpy as np
    from matplotlib.patches import Rectangle

    rows, columns = np.shape(values)
    across, down = np.arange(columns + 1) - 0.5, np.arange(rows + 1) - 0.5
    shades = axes.pcolormesh(across, down, np.ma.masked_invalid(values), edgecolor=edge, linewidth=0.8, **look)
    for row, line in enumerate(texts or ()):
        for column, text in enumerate(line):
            is_dark = np.dot(shades.to_rgba(values[row][column])[:3], (0.3, 0.6, 0.1)) < 0.5
            colour = "#fdfdfd" if is_dark and np.isfinite(values[row][column]) else "#111111"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=fontsize, linespacing=1.35)
    for row, column in framed:
        place = (column - 0.46, row - 0.46)
        axes.add_patch(Rectangle(place, 0.92, 0.92, fill=False, edgecolor=COLOURS["layernorm"], linewidth=2))
    axes.set_yticks(range(rows), names[0])
    axes.set_xticks(range(columns), names[1])
    axes.invert_yaxis()
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelcolor=MUTED, labelsize=9)
    axes.patch.set_alpha(0)
    return shades


def colour_bar(drawn: Any, axes: Any, shades: Any, label: str, **look: Any) -> None:
    """A colour bar beside the axes."""
    bar = drawn.colorbar(shades, ax=axes, pad=0.02, **look)
    bar.set_label(label, fontsize=9.5, color=INK)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8.5, length=0, labelcolor=MUTED)


def save(drawn: Any, path: str | Path) -> None:
    """Write a figure. SVGs are reproducible byte for byte and have a clear background."""
    from matplotlib import rc_context

    kind = Path(path).suffix.lower().removeprefix(".")
    is_svg = kind == "svg"
    with rc_context({"svg.hashsalt": Path(path).stem}), whole_file(path) as part:
        drawn.savefig(part, format=kind, dpi=150, transparent=is_svg, metadata={"Date": None} if is_svg else None)


def plain(text: str, longest: int = 24) -> str:
    """The text on one line, escaped so that it is neither a formula nor a control character."""
    text = printable(" ".join(text.split())).replace("$", r"\$")
    return text if len(text) <= longest else text[: longest - 1] + "…"


def inline_svg(svg: str) -> str:
    """An SVG written by matplotlib without its prologue and metadata, with the page's colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    if (box := re.search(r'viewBox="\S+ \S+ (\S+) (\S+)"', svg)) and float(box[1]) > PANELS * float(box[2]):
        svg = svg.replace("<svg", '<svg class="panels"', 1)
    for colour, name in ((INK, "ink"), (MUTED, "muted"), (RULE, "rule")):
        svg = svg.replace(colour, f"var(--{name})")
    return svg.strip()
