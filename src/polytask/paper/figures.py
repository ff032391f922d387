"""Drawings, written whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from polytask.errors import PolytaskError, printable
from polytask.files import whole_file

FORMATS = (".png", ".pdf", ".svg")
MOST_NUMBERS = 25
"""With more labels than this the numbers would not be legible, and the shades must do."""

MOST_NAMES = 100
"""Of labels beside a matrix, in letters that can be read."""

INK, MUTED, RULE = "#1f2328", "#59636e", "#d1d9e0"
"""Of letters, of what stands back, and of thin lines. A page may swap them in an SVG for its own."""

COLOURS = {"adapters": "#2f6fd0", "top": "#d4730b", "layernorm": "#2e9d55", "full": "#8250c4", "tfidf": "#8a8f98"}
"""By family of methods; legible on white and on black."""


def check_drawing() -> None:
    """Refuse before hours of work what could not be drawn after them.

    Raises:
        PolytaskError: matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise PolytaskError('drawing needs matplotlib, which is not installed: pip install "polytask[paper]"') from None


def figure(path: str | Path, width: float, height: float) -> Any:
    """An empty matplotlib figure, in inches, that needs no screen.

    Raises:
        PolytaskError: matplotlib is not installed, or the file's ending is not one it is to write.
    """
    if Path(path).suffix.lower() not in FORMATS:
        raise PolytaskError(f"a figure cannot be written as {path}. End its name in {', '.join(FORMATS)}")
    check_drawing()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def draw_confusion(
    path: str | Path, labels: Sequence[str], confusion: Sequence[Sequence[int]], title: str = ""
) -> None:
    """Draw which labels are taken for which: rows are what is right, columns what was answered.

    Shades are shares of the row, as a bar beside them says; numbers are rows of data. Of very many labels every second
    or third is named.

    Raises:
        PolytaskError: as ``figure``.
    """
    side = min(14.0, 2.2 + 0.55 * len(labels))
    drawn = figure(path, side + 0.8, side)
    axes = drawn.subplots()
    shares = [[count / max(1, sum(row)) for count in row] for row in confusion]
    shades = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    bar = drawn.colorbar(shades, ax=axes, shrink=0.6, pad=0.02, format=lambda share, _: f"{share:.0%}")
    bar.set_label("share of the row's label")
    step = -(-len(labels) // MOST_NAMES)
    named = range(0, len(labels), step)
    names = [plain(labels[at]) for at in named]
    is_crowded = len(labels) > MOST_NUMBERS
    look: dict[str, Any] = {"fontsize": 7} if is_crowded else {}
    turned = {"rotation": 90} if is_crowded else {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(named, names, **turned, **look)
    axes.set_yticks(named, names, **look)
    axes.set_xlabel("answered")
    axes.set_ylabel("right")
    axes.set_title(plain(title, 80), fontsize=10)
    if len(labels) <= MOST_NUMBERS:
        for row, (counts, aggregate_windows) in enumerate(zip(confusion, shares, strict=True)):
            for column, (count, share) in enumerate(zip(counts, aggregate_windows, strict=True)):
                colour = "white" if share > 0.5 else "black"
                axes.text(column, row, f"{count:,}", ha="center", va="center", color=colour, fontsize=9)
    save(drawn, path)


def panels(path: str | Path, count: int, width: float = 4.6, height: float = 3.9) -> tuple[Any, list[Any]]:
    """A figure of so many panels in a row, each of this size, with thin lines and no frame.

    Raises:
        PolytaskError: as ``figure``.
    """
    drawn = figure(path, width * count, height)
    return drawn, [calm(axes) for axes in drawn.subplots(1, count, squeeze=False)[0]]


def calm(axes: Any) -> Any:
    """The same axes in ``INK``, ``MUTED`` and ``RULE``."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(RULE)
    axes.tick_params(which="both", color=RULE, labelcolor=MUTED, labelsize=9)
    axes.grid(color=RULE, linewidth=0.6, alpha=0.7)
    axes.set_axisbelow(True)
    axes.patch.set_alpha(0)
    return axes


def labelled(axes: Any, title: str = "", x: str = "", y: str = "") -> None:
    """Say what is drawn and along which axes."""
    axes.set_title(plain(title, 80), fontsize=10.5, color=INK, loc="left", pad=10)
    axes.set_xlabel(plain(x, 80), fontsize=9.5, color=INK)
    axes.set_ylabel(plain(y, 80), fontsize=9.5, color=INK)


def room(axes: Any, least: float = 1.0) -> None:
    """Let the upright axis span so many points at least: equal scores are a level line, not noise enlarged."""
    low, high = axes.get_ylim()
    if high - low < least:
        middle = (low + high) / 2
        axes.set_ylim(middle - least / 2, middle + least / 2)


def legend(drawn: Any) -> None:
    """Names of what is drawn in any panel, each once, below all panels."""
    names: dict[str, Any] = {}
    for axes in drawn.axes:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            names.setdefault(name, handle)
    abreast = len(names) if len(drawn.axes) > 1 or len(names) < 4 else 2
    where = {"loc": "outside lower center", "ncols": max(1, abreast)}
    drawn.legend(names.values(), names.keys(), frameon=False, fontsize=9, labelcolor=INK, **where)


def save(drawn: Any, path: str | Path) -> None:
    """Write a figure. The same figure is the same SVG, whenever it is written; its background is clear."""
    from matplotlib import rc_context

    kind = Path(path).suffix.lower().removeprefix(".")
    is_svg = kind == "svg"
    with rc_context({"svg.hashsalt": Path(path).stem}), whole_file(path) as part:
        drawn.savefig(part, format=kind, dpi=150, transparent=is_svg, metadata={"Date": None} if is_svg else None)


def plain(text: str, longest: int = 24) -> str:
    """One line, not taken for a formula; what cannot be seen is written as an escape."""
    text = printable(" ".join(text.split())).replace("$", r"\$")
    return text if len(text) <= longest else text[: longest - 1] + "…"
