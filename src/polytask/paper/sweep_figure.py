"""A sweep as a picture: a grid where two settings vary, lines through one axis a setting otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from polytask.errors import RecipeError
from polytask.files import whole_file
from polytask.paper.figures import figure
from polytask.training.grid import value_in_words
from polytask.training.sweep_result import Setting, Sweep

SHADES = "YlGnBu"
DARK = 0.45
"""From this shade on, letters are white."""

APART, SPREAD = 0.022, 0.16
"""How far apart lines pass through one value, and all of them together at most, as shares of the axis."""


def sweep_figure(sweep: Sweep, path: str | Path) -> None:
    """Draw the validation scores of a sweep's settings, means over their seeds with standard errors.

    Raises:
        PolytaskError: matplotlib is not installed, or the file's ending is not one it is to write.
        RecipeError: nothing but the seed varies, or all runs diverged.
    """
    names = list(sweep.settings[0].values)
    if not names or all(setting.mean is None for setting in sweep.settings):
        what = "nothing but the seed varies in this sweep" if not names else "all runs of this sweep diverged"
        raise RecipeError(f"{what}: there is nothing to draw")
    drawn = _grid(sweep, path, *names) if len(names) == 2 else _lines(sweep, path, names)
    with whole_file(path) as part:
        drawn.savefig(part, format=Path(path).suffix.lower().removeprefix("."), dpi=150)


def _grid(sweep: Sweep, path: str | Path, down: str, across: str) -> Any:
    """One cell a setting: shade and number are the mean; the best is framed."""
    rows, columns = _values(sweep, down)[::-1], _values(sweep, across)
    drawn = figure(path, 2.6 + 1.15 * len(columns), 1.5 + 0.75 * len(rows))
    axes = drawn.subplots()
    shades = _shades(sweep)
    shares = [[float("nan")] * len(columns) for _ in rows]
    for setting in sweep.settings:
        row, column = rows.index(setting.values[down]), columns.index(setting.values[across])
        if setting.mean is not None:
            shares[row][column] = shades.norm(setting.mean)
        is_dark = setting.mean is not None and shares[row][column] > DARK
        style = {"ha": "center", "va": "center", "color": "white" if is_dark else "black"}
        axes.text(column, row, _cell(setting), fontsize=9, linespacing=1.35, **style)
        if setting is sweep.settings[0]:
            axes.add_patch(_frame(column, row))
    axes.imshow(shares, cmap=shades.cmap, vmin=0, vmax=1, aspect="auto")
    axes.set_facecolor("0.93")
    axes.set_xticks(range(len(columns)), [value_in_words(value) for value in columns])
    axes.set_yticks(range(len(rows)), [value_in_words(value) for value in rows])
    axes.set_xticks([at - 0.5 for at in range(1, len(columns))], minor=True)
    axes.set_yticks([at - 0.5 for at in range(1, len(rows))], minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel(across)
    axes.set_ylabel(down)
    _bar(drawn, axes, shades, sweep)
    return drawn


def _cell(setting: Setting) -> str:
    """``0.912`` over ``± 0.004``; and how many of its runs diverged."""
    lines = [] if setting.mean is None else [f"{setting.mean:.3f}"]
    lines += [] if setting.sem is None else [f"± {setting.sem:.3f}"]
    if setting.num_diverged:
        lines.append("diverged" if setting.mean is None else f"{setting.num_diverged} diverged")
    return "\n".join(lines)


def _frame(column: int, row: int) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((column - 0.47, row - 0.46), 0.94, 0.92, fill=False, edgecolor="tab:red", linewidth=2, zorder=3)


def _lines(sweep: Sweep, path: str | Path, names: Sequence[str]) -> Any:
    """One line a setting, through its value on each axis to its mean score; the best on top with its standard error."""
    drawn = figure(path, 2.2 + 1.9 * len(names), 4.4)
    axes = drawn.subplots()
    shades = _shades(sweep)
    scale = _Scale(sweep)
    order = list(reversed(sweep.settings))
    for at, name in enumerate(names):
        values = _values(sweep, name)
        axes.axvline(at, color="0.75", linewidth=1, zorder=0)
        for value in values:
            label = axes.text(at - 0.05, _height(values, value), value_in_words(value), ha="right", va="center")
            label.set(fontsize=9, zorder=5, bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1.5})
    passing = [_passing(sweep, name, order) for name in names]
    for rank, setting in enumerate(order):
        heights = [_height(_values(sweep, name), setting.values[name]) for name in names]
        heights = [height + shifts[rank] for height, shifts in zip(heights, passing, strict=True)]
        xs, ys = _curve([*heights, scale(setting.mean)])
        is_best = setting is sweep.settings[0]
        style = {"color": shades.to_rgba(setting.mean)} if setting.mean is not None else {"color": "0.6", "ls": "--"}
        axes.plot(xs, ys, linewidth=3.5 if is_best else 1.6, alpha=1 if is_best else 0.85, zorder=2 + is_best, **style)
        if is_best and setting.mean is not None and setting.sem is not None:
            reach = [scale(setting.mean - setting.sem), scale(setting.mean + setting.sem)]
            axes.plot([len(names)] * 2, reach, color=style["color"], linewidth=7, alpha=0.35, solid_capstyle="butt")
    axes.axvline(len(names), color="0.75", linewidth=1, zorder=0)
    for value in scale.ticks:
        label = "diverged" if value is None else f"{value:.3f}"
        axes.text(len(names) + 0.06, scale(value), label, ha="left", va="center", fontsize=9)
    axes.set_xticks(range(len(names) + 1), [*names, _what(sweep)])
    axes.set_yticks([])
    axes.tick_params(length=0)
    axes.set_xlim(-0.35, len(names) + 0.4)
    axes.set_ylim(-0.12, 1.12)
    axes.spines[:].set_visible(False)
    return drawn


class _Scale:
    """Heights of scores on the last axis, from 0 to 1; those that diverged stand below all others."""

    def __init__(self, sweep: Sweep) -> None:
        means = [setting.mean for setting in sweep.settings if setting.mean is not None]
        self.low, self.high = min(means), max(means)
        has_diverged = len(means) < len(sweep.settings)
        self.foot = 0.15 if has_diverged else 0.0
        steps = [self.low + (self.high - self.low) * part / 4 for part in range(5)]
        self.ticks: list[float | None] = [*dict.fromkeys(steps), *([None] if has_diverged else [])]

    def __call__(self, score: float | None) -> float:
        """The height of a mean; None for runs that diverged."""
        if score is None:
            return 0.0
        share = 0.5 if self.high == self.low else (score - self.low) / (self.high - self.low)
        return self.foot + (1 - self.foot) * share


def _curve(heights: Sequence[float], steps: int = 24) -> tuple[list[float], list[float]]:
    """A line through these heights, level where it meets an axis, so that it can be followed."""
    xs, ys = [0.0], [heights[0]]
    for at, (start, end) in enumerate(pairwise(heights)):
        for part in range(1, steps + 1):
            t = part / steps
            xs.append(at + t)
            ys.append(start + (end - start) * t * t * (3 - 2 * t))
    return xs, ys


def _passing(sweep: Sweep, name: str, order: Sequence[Setting]) -> list[float]:
    """How far each line is moved where several pass through one value: the better the higher."""
    shifts = []
    for setting in order:
        beside = [other for other in order if other.values[name] == setting.values[name]]
        step = min(APART, SPREAD / len(beside))
        shifts.append((beside.index(setting) - (len(beside) - 1) / 2) * step)
    return shifts


def _values(sweep: Sweep, name: str) -> list[Any]:
    """The values that a setting takes, numbers in their order, others as they come, none of it first."""
    values = list({repr(setting.values[name]): setting.values[name] for setting in sweep.settings}.values())
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    others = [value for value in values if value not in numbers]
    return [*others, *sorted(numbers)]


def _height(values: Sequence[Any], value: Any) -> float:
    return 0.5 if len(values) == 1 else values.index(value) / (len(values) - 1)


def _shades(sweep: Sweep) -> Any:
    """From score to colour, the least score still to be seen on white."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    means = [setting.mean for setting in sweep.settings if setting.mean is not None]
    low, high = min(means), max(means)
    colours = ListedColormap(colormaps[SHADES]([0.2 + 0.75 * step / 255 for step in range(256)]))
    return ScalarMappable(Normalize(low, high if high > low else low + 1e-9), colours)


def _bar(drawn: Any, axes: Any, shades: Any, sweep: Sweep) -> None:
    bar = drawn.colorbar(shades, ax=axes, pad=0.03, fraction=0.06)
    bar.set_label(_what(sweep), fontsize=9)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, length=0)


def _what(sweep: Sweep) -> str:
    most = max(len(setting.runs) for setting in sweep.settings)
    return f"validation {sweep.metric}" + (f"\n(mean of {most} seeds)" if most > 1 else "")
