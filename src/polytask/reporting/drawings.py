"""The pictures of the report, drawn with matplotlib as SVGs in the page's colours, light or dark.

Texts stay texts, so that the browser's fonts draw scripts that matplotlib's font lacks. Cells and points of which
there may be thousands are embedded as a bitmap.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

from polytask.drawing.figures import (
    COLOURS,
    INK,
    MAX_NUMBERED,
    MUTED,
    RULE,
    colour_bar,
    figure,
    heat_map,
    inline_svg,
    label_axes,
    plain,
    style_axes,
)
from polytask.evaluation.reliability import share

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

BLUE, ORANGE, GREEN, PURPLE, GREY = (COLOURS[name] for name in ("adapters", "top", "layernorm", "full", "tfidf"))
CYCLE = (BLUE, ORANGE, GREEN, PURPLE, "#c2457f", "#1f9aa8", "#8f7a1c", "#6b7a90")
WIDTH, HEIGHT = 5.6, 3.7
"""Of a usual picture, in inches."""
PAGE_WIDTH, CELL, SMALLEST_CELL = 10.4, 0.185, 0.1
"""The width of the page, and those of a cell of a confusion matrix that is too large for numbers, in inches."""
MAX_VECTOR_POINTS = 300
"""With more points a scatter plot is a bitmap."""

MIN_SPAN = 0.1
"""An axis of scores spans at least this much, so that equal scores are no magnified noise."""
MAX_NAMED, MIN_GAP = 8, 0.06
"""Points with a name, and how far apart their scores are at least."""


@dataclass(frozen=True)
class Interval:
    """A named score with its interval; ``low`` and ``high`` are the score itself if there is none."""

    name: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """A named line through points."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


def draw_intervals(name: str, rows: Sequence[Interval], metric: str, *, colours: Sequence[str] = (BLUE,)) -> str:
    """Scores as points with their intervals, the first on top."""
    drawn, axes = _axes(name, WIDTH, 1.0 + 0.42 * len(rows))
    for at, row in enumerate(rows):
        colour = colours[min(at, len(colours) - 1)]
        axes.plot([row.low, row.high], [at, at], color=colour, linewidth=2.4, solid_capstyle="round", alpha=0.75)
        axes.plot([row.value], [at], "o", color=colour, markersize=7)
        axes.annotate(f"{row.value:.3f}", (row.value, at), (0, 8), textcoords="offset points", ha="center", **_SMALL)
    axes.set_yticks(range(len(rows)), [plain(row.name, 34) for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.75)
    low, high = min(row.low for row in rows), max(row.high for row in rows)
    room = max(0.12 * (high - low), MIN_SPAN - (high - low), 0.0)
    axes.set_xlim(low - room, high + room)
    axes.locator_params(axis="x", nbins=6)
    label_axes(axes, x=metric)
    axes.grid(axis="y", visible=False)
    return _svg(drawn, name)


def draw_confusion(name: str, labels: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """Shades are shares of a true label's rows; up to 25 labels, cells have numbers."""
    import numpy as np

    table = np.asarray(counts, dtype=np.float64)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    shares[table == 0] = np.nan  # clear, on a light page and on a dark one
    is_large = len(labels) > MAX_NUMBERED
    names = [plain(label, 24) for label in labels]
    cell = _cell_size(len(labels)) if is_large else max(0.46, 2.2 / len(labels))
    fontsize = min(8.0, 58 * cell) if is_large else 9.0
    margin = max(map(len, names)) * fontsize * 0.0078 + 0.35
    side = len(labels) * cell
    drawn = figure(f"{name}.svg", side + margin + 0.2, side + margin * (1 if is_large else 0.75) + 0.8)
    axes = drawn.subplots()
    look: dict[str, Any] = {"cmap": _shades_of_blue(), "vmin": 0, "vmax": 1, "rasterized": is_large}
    shades = heat_map(axes, shares, None, names=(names, names), edge="none", **look)
    for row, column in () if is_large else np.argwhere(table > 0):
        axes.text(column, row, f"{counts[row][column]:,}", ha="center", va="center", color=INK, fontsize=9)
    turned = {"rotation": 90} if is_large else {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(len(names)), names, **turned)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color=RULE, linewidth=0.5)
    axes.tick_params(which="both", length=0, labelsize=fontsize, labelcolor=MUTED)
    axes.set_aspect("equal")
    label_axes(axes, x="predicted", y="true")
    bar = {"location": "top", "aspect": 30, "shrink": min(1, 3 / side), "anchor": (0.0, 0.5)}
    ticks = (0, 0.25, 0.5, 0.75, 1)
    colour_bar(drawn, axes, shades, "share of the true label’s rows", format=_percent, ticks=ticks, **bar)
    drawn.axes[-1].set_xlim(0, 1)
    return _svg(drawn, name, bbox_inches="tight")


def _shades_of_blue() -> Any:
    """From nearly clear to blue, so that a greater share stands out on a light page and on a dark one."""
    from matplotlib.colors import LinearSegmentedColormap, to_rgba

    return LinearSegmentedColormap.from_list("shades", [to_rgba(BLUE, 0.12), to_rgba(BLUE, 0.95)])


def _cell_size(num_labels: int) -> float:
    """The width of a cell with which a large matrix fits the page, if it can."""
    return min(CELL, max(SMALLEST_CELL, (PAGE_WIDTH - 1.7) / num_labels))


def draw_reliability(name: str, sides: Sequence[tuple[str, Sequence[tuple[int, float, float]]]]) -> str:
    """The share that is right, with its interval (Wilson), against the probability, of bins; areas show rows.

    Args:
        name: of the picture.
        sides: titles, each with bins ``(rows, probability, right)``; the last is in colour.
    """
    import numpy as np

    drawn, axes = _axes(name, WIDTH, 4.2)
    axes.plot([0, 1], [0, 1], "--", color=MUTED, linewidth=1)
    for (title, bins), colour in zip(sides, (GREY, BLUE) if len(sides) > 1 else (BLUE,)):
        rows, probability, right = (np.array(column) for column in zip(*bins))
        axes.plot(probability, right, color=colour, linewidth=1, alpha=0.5)
        ends = [share(round(count * part), int(count)) or [0.0] * 3 for count, part in zip(rows, right)]
        axes.vlines(probability, [own[1] for own in ends], [own[2] for own in ends], color=colour, alpha=0.35)
        sizes = 14 + 240 * rows / rows.sum()
        axes.scatter(probability, right, s=sizes, color=colour, alpha=0.75, linewidth=0, label=title, zorder=3)
    _unit_square(axes)
    label_axes(axes, x="probability", y="share that is right")
    _legend(axes, loc="upper left")
    return _svg(drawn, name)


def draw_curves(name: str, curves: Sequence[Curve], x: str, y: str) -> str:
    """Lines in the unit square, such as precision against recall."""
    drawn, axes = _axes(name, WIDTH, 4.6)
    for curve, colour in zip(curves, CYCLE):
        axes.plot(curve.x, curve.y, color=colour, linewidth=1.6, label=plain(curve.name, 34), drawstyle="steps-post")
    _unit_square(axes)
    label_axes(axes, x=x, y=y)
    drawn.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8.5, labelcolor=INK)
    return _svg(drawn, name)


def draw_coverage(
    name: str, coverage: Sequence[float], score: Sequence[float], band: tuple[Sequence[float], Sequence[float]], y: str,
    mark: tuple[float, float] | None = None,
) -> str:  # fmt: skip
    """The score of the surest answers against their share, with its band; ``mark`` is where the adapter abstains."""
    drawn, axes = _axes(name, WIDTH, 4.2)
    axes.fill_between(coverage, *band, color=BLUE, alpha=0.18, linewidth=0)
    axes.plot(coverage, score, color=BLUE, linewidth=1.8)
    if mark is not None:
        axes.plot(*mark, "o", color=ORANGE, markersize=8, label="the adapter’s own threshold")
        _legend(axes, loc="lower left")
    axes.set_xlim(0, 1.01)
    low = min(band[0][len(band[0]) // 20 :] or band[0])
    axes.set_ylim(max(0.0, min(low, min(score)) - 0.03), 1.01)
    axes.xaxis.set_major_formatter(_percent)
    label_axes(axes, x="share of the rows that is answered", y=y)
    return _svg(drawn, name)


def draw_frequency(name: str, labels: Sequence[str], counts: Sequence[int], scores: Sequence[float], x: str) -> str:
    """The F1 of each label against its number of rows; the lowest are named."""
    drawn, axes = _axes(name, WIDTH, HEIGHT)
    axes.scatter(counts, scores, s=34, color=BLUE, alpha=0.75, linewidth=0)
    if min(counts) > 0 and max(counts) > 8 * min(counts):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda count, _: f"{count:,.0f}")
    middle = sorted(counts)[len(counts) // 2]
    for at in _apart(scores, MAX_NAMED):
        left = counts[at] <= middle
        place = {"xytext": (6 if left else -6, -9), "textcoords": "offset points", "ha": "left" if left else "right"}
        axes.annotate(plain(labels[at], 22), (counts[at], scores[at]), **place, **_SMALL)
    axes.set_ylim(-0.05, 1.05)
    axes.margins(x=0.12)
    label_axes(axes, x=x, y="F1")
    return _svg(drawn, name)


def draw_scatter(name: str, truth: Sequence[float], predicted: Sequence[float], radius: float | None) -> str:
    """Predicted against true numbers, with the band of the interval."""
    drawn, axes = _axes(name, WIDTH, 4.6)
    low, high = min(*truth, *predicted), max(*truth, *predicted)
    ends = [low, high]
    if radius is not None:
        under, over = [end - radius for end in ends], [end + radius for end in ends]
        axes.fill_between(ends, under, over, color=GREEN, alpha=0.15, linewidth=0, label="within the interval")
        _legend(axes, loc="upper left")
    axes.plot(ends, ends, "--", color=MUTED, linewidth=1)
    is_large = len(truth) > MAX_VECTOR_POINTS
    look = {"s": 14, "color": BLUE, "linewidth": 0, "alpha": max(0.15, min(0.7, 150 / len(truth)))}
    axes.scatter(truth, predicted, rasterized=is_large, **look)
    label_axes(axes, x="true", y="predicted")
    return _svg(drawn, name)


def draw_histogram(name: str, values: Sequence[float], x: str) -> str:
    """How often values occur, with a line at zero."""
    drawn, axes = _axes(name, WIDTH, 4.6)
    axes.hist(values, bins=min(40, max(8, len(values) // 8)), color=BLUE, alpha=0.8)
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.axvline(0, color=MUTED, linewidth=1, linestyle="--")
    label_axes(axes, x=x, y="rows")
    return _svg(drawn, name)


def _apart(scores: Sequence[float], most: int) -> list[int]:
    """The lowest scores, without those that are so close to one before that their names would overlap."""
    kept: list[int] = []
    for at in sorted(range(len(scores)), key=scores.__getitem__):
        if len(kept) < most and all(abs(scores[at] - scores[other]) > MIN_GAP for other in kept):
            kept.append(at)
    return kept


_SMALL = {"fontsize": 8.5, "color": INK}


def _axes(name: str, width: float, height: float) -> tuple[Any, Any]:
    drawn = figure(f"{name}.svg", width, height)
    axes = drawn.subplots()
    style_axes(axes)
    return drawn, axes


def _unit_square(axes: Any) -> None:
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.04)
    axes.xaxis.set_major_formatter(_percent)
    axes.yaxis.set_major_formatter(_percent)


def _percent(share: float, _: object) -> str:
    return f"{share:.0%}"


def _legend(axes: Any, **place: Any) -> None:
    axes.legend(frameon=False, fontsize=8.5, labelcolor=INK, **place)


def _svg(drawn: Any, name: str, **how: Any) -> str:
    """The figure as an SVG to be put into the page."""
    from matplotlib import rc_context

    written = BytesIO()
    with rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # matplotlib warns about characters that its font lacks
        drawn.savefig(written, format="svg", dpi=150, transparent=True, metadata={"Date": None}, **how)
    svg = inline_svg(written.getvalue().decode("utf-8"))
    return re.sub(r'<g id="[^"]*">', "<g>", svg)
