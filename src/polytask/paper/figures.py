"""Drawing with matplotlib: what the figures share. Files are written whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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

LINE = {"markersize": 4.5, "linewidth": 1.7}


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


def draw_panels(
    path: str | Path,
    groups: Mapping[str, Sequence[dict[str, Any]]],
    draw_one: Callable[[Any, str, Sequence[dict[str, Any]]], None],
    width: float = 5.2,
) -> None:
    """Write a figure with a panel of ``width`` inches for each group of rows: ``draw_one(axes, name, rows)``.

    Raises:
        PolytaskError: as ``figure``.
    """
    drawn = figure(path, width * len(groups), 3.9)
    for axes, (name, rows) in zip(drawn.subplots(1, len(groups), squeeze=False)[0], groups.items(), strict=True):
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(RULE)
        axes.tick_params(which="both", color=RULE, labelcolor=MUTED, labelsize=9)
        axes.grid(color=RULE, linewidth=0.6, alpha=0.7)
        axes.set_axisbelow(True)
        axes.patch.set_alpha(0)
        draw_one(axes, name, rows)
        _at_least_one_point_high(axes)
    _legend(drawn)
    save(drawn, path)


def draw_band(
    axes: Any,
    rows: Sequence[Mapping[str, Any]],
    columns: tuple[str, str, str, str],
    *,
    colour: str,
    label: str,
    style: str = "o-",
) -> None:
    """A line with a band around it on a logarithmic x axis; ``columns``: x, lower end, middle, upper end."""
    xs, low, middle, high = ([row[name] for row in rows] for name in columns)
    axes.fill_between(xs, low, high, color=colour, alpha=0.18, linewidth=0)
    axes.plot(xs, middle, style, color=colour, label=label, **LINE)
    axes.set_xscale("log")


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


def draw_confusion(
    path: str | Path, labels: Sequence[str], confusion: Sequence[Sequence[int]], title: str = ""
) -> None:
    """Draw a confusion matrix: rows are true labels, columns predicted ones, shades are shares of the row.

    Cells have numbers up to 25 labels; beyond 100 labels only every second or third is named.

    Raises:
        PolytaskError: as ``figure``.
    """
    side = min(14.0, 2.2 + 0.55 * len(labels))
    drawn = figure(path, side + 0.8, side)
    axes = drawn.subplots()
    is_crowded = len(labels) > MAX_NUMBERED
    step = -(-len(labels) // MAX_NAMED)
    names = ["" if at % step else plain(label) for at, label in enumerate(labels)]
    shares = [[count / max(1, sum(row)) for count in row] for row in confusion]
    texts = None if is_crowded else [[f"{count:,}" for count in row] for row in confusion]
    shades = heat_map(axes, shares, texts, names=(names, names), edge="none", cmap="Blues", vmin=0, vmax=1)
    turned = {"rotation": 90} if is_crowded else {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(axes.get_xticks(), names, **turned)
    axes.tick_params(labelsize=7 if is_crowded else 10)
    axes.set_aspect("equal")
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(plain(title, 80), fontsize=10)
    colour_bar(drawn, axes, shades, "share of the row's label", shrink=0.6, format=lambda share, _: f"{share:.0%}")
    save(drawn, path)


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


def _at_least_one_point_high(axes: Any) -> None:
    """Let the y axis span one point or more, so that equal scores are a level line and not magnified noise."""
    low, high = axes.get_ylim()
    if high - low < 1:
        axes.set_ylim((low + high) / 2 - 0.5, (low + high) / 2 + 0.5)


def _legend(drawn: Any) -> None:
    """One legend below all panels, each name once."""
    names: dict[str, Any] = {}
    for axes in drawn.axes:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            names.setdefault(name, handle)
    columns = len(names) if len(drawn.axes) > 1 or len(names) < 4 else 2
    look = {"loc": "outside lower center", "ncols": max(1, columns), "frameon": False, "fontsize": 9}
    drawn.legend(names.values(), names.keys(), labelcolor=INK, **look)
