"""A sweep as a figure: a heat map if two settings vary, otherwise parallel coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from polytask.drawing.figures import colour_bar, figure, heat_map, save
from polytask.errors import RecipeError
from polytask.training.grid import value_in_words
from polytask.training.sweep_result import Setting, Sweep

SHADES = "YlGnBu"
STEP, SPREAD = 0.022, 0.16
"""The distance of neighbouring lines through one value, and the most of all of them, as shares of the axis."""


def sweep_figure(sweep: Sweep, path: str | Path) -> None:
    """Draw the validation scores of a sweep's settings, means over their seeds with standard errors.

    Raises:
        PolytaskError: matplotlib is not installed, or the file format is not supported.
        RecipeError: nothing but the seed varies, or all runs diverged.
    """
    names = list(sweep.settings[0].values)
    if not names or not _means(sweep):
        what = "nothing but the seed varies in this sweep" if not names else "all runs of this sweep diverged"
        raise RecipeError(f"{what}: there is nothing to draw")
    if len(names) == 2:
        _heat_map(sweep, path, *names)
    else:
        _parallel_coordinates(sweep, path, names)


def _heat_map(sweep: Sweep, path: str | Path, down: str, across: str) -> None:
    """One cell per setting: its shade and its number are the mean; the best is framed."""
    rows, columns = _values(sweep, down), _values(sweep, across)
    scores = [[float("nan")] * len(columns) for _ in rows]
    texts = [[""] * len(columns) for _ in rows]
    places = [(rows.index(one.values[down]), columns.index(one.values[across])) for one in sweep.settings]
    for (row, column), setting in zip(places, sweep.settings, strict=True):
        scores[row][column] = float("nan") if setting.mean is None else setting.mean
        texts[row][column] = _cell_text(setting)
    drawn = figure(path, 2.6 + 1.15 * len(columns), 1.5 + 0.75 * len(rows))
    axes = drawn.subplots()
    names = (list(map(value_in_words, rows)), list(map(value_in_words, columns)))
    shades = _shades(sweep)
    heat_map(axes, scores, texts, names=names, framed=places[:1], cmap=shades.cmap, norm=shades.norm)
    axes.patch.set(facecolor="0.93", alpha=1)
    axes.invert_yaxis()  # the largest value on top
    axes.set_xlabel(across)
    axes.set_ylabel(down)
    colour_bar(drawn, axes, shades, _score_name(sweep), fraction=0.06)
    save(drawn, path)


def _cell_text(setting: Setting) -> str:
    """``0.912`` over ``± 0.004``, and how many of its runs diverged."""
    lines = [] if setting.mean is None else [f"{setting.mean:.3f}"]
    lines += [] if setting.sem is None else [f"± {setting.sem:.3f}"]
    if setting.num_diverged:
        lines.append("diverged" if setting.mean is None else f"{setting.num_diverged} diverged")
    return "\n".join(lines)


def _parallel_coordinates(sweep: Sweep, path: str | Path, names: Sequence[str]) -> None:
    """One line per setting, through its value on each axis to its mean score; the best on top with its error."""
    drawn = figure(path, 2.2 + 1.9 * len(names), 4.4)
    axes = drawn.subplots()
    values = {name: _values(sweep, name) for name in names}
    order = list(reversed(sweep.settings))
    height = _score_heights(sweep)
    shifts = {name: _shifts(name, order) for name in names}
    for at, setting in enumerate(order):
        heights = [_height(values[name], setting.values[name]) + shifts[name][at] for name in names]
        _draw_line(axes, sweep, setting, [*heights, height(setting.mean)], height)
    for at in range(len(names) + 1):
        axes.axvline(at, color="0.75", linewidth=1, zorder=0)
    box = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1.5}
    for at, name in enumerate(names):
        for value in values[name]:
            place = (at - 0.05, _height(values[name], value))
            axes.text(*place, value_in_words(value), ha="right", va="center", fontsize=9, zorder=5, bbox=box)
    for score in _ticks(sweep):
        text = "diverged" if score is None else f"{score:.3f}"
        axes.text(len(names) + 0.06, height(score), text, ha="left", va="center", fontsize=9)
    axes.set_xticks(range(len(names) + 1), [*names, _score_name(sweep)])
    axes.set_yticks([])
    axes.tick_params(length=0)
    axes.set(xlim=(-0.35, len(names) + 0.4), ylim=(-0.12, 1.12))
    axes.spines[:].set_visible(False)
    save(drawn, path)


def _draw_line(axes: Any, sweep: Sweep, setting: Setting, heights: Sequence[float], height: Any) -> None:
    """A line through these heights, level at each axis so that it can be followed."""
    import numpy as np

    is_best, mean = setting is sweep.settings[0], setting.mean
    look = {"color": "0.6", "ls": "--"} if mean is None else {"color": _shades(sweep).to_rgba(mean)}
    xs = np.linspace(0, len(heights) - 1, 24 * (len(heights) - 1) + 1)
    start = np.minimum(xs.astype(int), len(heights) - 2)
    eased = (xs - start) ** 2 * (3 - 2 * (xs - start))
    ys = np.take(heights, start) * (1 - eased) + np.take(heights, start + 1) * eased
    axes.plot(xs, ys, linewidth=3.5 if is_best else 1.6, alpha=1 if is_best else 0.85, zorder=2 + is_best, **look)
    if is_best and mean is not None and setting.sem is not None:
        reach = [height(mean - setting.sem), height(mean + setting.sem)]
        axes.plot([xs[-1]] * 2, reach, color=look["color"], linewidth=7, alpha=0.35, solid_capstyle="butt")


def _score_heights(sweep: Sweep) -> Any:
    """A function from a score to its height from 0 to 1; None, for diverged runs, is below all others."""
    low, high = min(_means(sweep)), max(_means(sweep))
    foot = 0.15 if len(_means(sweep)) < len(sweep.settings) else 0.0

    def height(score: float | None) -> float:
        if score is None:
            return 0.0
        return foot + (1 - foot) * (0.5 if high == low else (score - low) / (high - low))

    return height


def _ticks(sweep: Sweep) -> list[float | None]:
    low, high = min(_means(sweep)), max(_means(sweep))
    steps = dict.fromkeys(low + (high - low) * part / 4 for part in range(5))
    return [*steps, *([None] if len(_means(sweep)) < len(sweep.settings) else [])]


def _shifts(name: str, order: Sequence[Setting]) -> list[float]:
    """How far each line is moved where several pass through one value: better ones upwards."""
    shifts = []
    for setting in order:
        beside = [other for other in order if other.values[name] == setting.values[name]]
        step = min(STEP, SPREAD / len(beside))
        shifts.append((beside.index(setting) - (len(beside) - 1) / 2) * step)
    return shifts


def _values(sweep: Sweep, name: str) -> list[Any]:
    """The values of a setting: numbers in ascending order, after others in order of appearance."""
    values = list({repr(setting.values[name]): setting.values[name] for setting in sweep.settings}.values())
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    return [*(value for value in values if value not in numbers), *sorted(numbers)]


def _height(values: Sequence[Any], value: Any) -> float:
    return 0.5 if len(values) == 1 else values.index(value) / (len(values) - 1)


def _means(sweep: Sweep) -> list[float]:
    return [setting.mean for setting in sweep.settings if setting.mean is not None]


def _shades(sweep: Sweep) -> Any:
    """From score to colour; the lowest score is still visible on white."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    low, high = min(_means(sweep)), max(_means(sweep))
    colours = ListedColormap(colormaps[SHADES]([0.2 + 0.75 * step / 255 for step in range(256)]))
    return ScalarMappable(Normalize(low, high if high > low else low + 1e-9), colours)


def _score_name(sweep: Sweep) -> str:
    most = max(len(setting.runs) for setting in sweep.settings)
    return f"validation {sweep.metric}" + (f"\n(mean of {most} seeds)" if most > 1 else "")
