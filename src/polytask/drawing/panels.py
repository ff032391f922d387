"""Figures of one panel or several with one legend below: lines with ranges, and heat maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from polytask.drawing.figures import INK, MUTED, RULE, colour_bar, figure, heat_map, label_axes, save, style_axes

LINE = {"markersize": 4.5, "linewidth": 1.7}


def draw_panels(
    path: str | Path,
    groups: Mapping[str, pd.DataFrame],
    draw_one: Callable[[Any, str, pd.DataFrame], None],
    width: float = 5.2,
) -> None:
    """Write a figure with a panel of ``width`` inches for each group of rows: ``draw_one(axes, name, rows)``.

    Raises:
        PolytaskError: as ``figure``.
    """
    drawn = figure(path, width * len(groups), 3.9)
    for axes, (name, rows) in zip(drawn.subplots(1, len(groups), squeeze=False)[0], groups.items(), strict=True):
        style_axes(axes)
        axes.patch.set_alpha(0)
        draw_one(axes, name, rows)
        _at_least_one_point_high(axes)
    _legend(drawn)
    save(drawn, path)


def draw_ranges(
    axes: Any,
    rows: pd.DataFrame,
    columns: tuple[str, str, str, str],
    *,
    colour: str,
    label: str,
    style: str = "o-",
    is_band: bool = True,
    names: Sequence[str] = (),
    is_named_above: bool = False,
) -> None:
    """A line through the middle of ranges on a logarithmic x axis.

    Args:
        axes: where to draw.
        rows: a point each.
        columns: x, lower end, middle and upper end of each point.
        colour: of the line.
        label: in the legend.
        style: of the line and its markers.
        is_band: draws the ranges as a band instead of error bars.
        names: beside the points; empty for none.
        is_named_above: the names stand above the ranges instead of below.
    """
    xs, low, middle, high = (rows[name].to_numpy() for name in columns)
    if is_band:
        axes.fill_between(xs, low, high, color=colour, alpha=0.18, linewidth=0)
        axes.plot(xs, middle, style, color=colour, label=label, **LINE)
    else:
        look = {"color": colour, "label": label, "capsize": 2.5}
        axes.errorbar(xs, middle, [middle - low, high - middle], fmt=style, **look, **LINE)
    shift, side = (5, "bottom") if is_named_above else (-5, "top")
    for name, x, y in zip(names, xs, high if is_named_above else low):
        if name:
            place = {"textcoords": "offset points", "xytext": (0, shift), "va": side, "ha": "center"}
            axes.annotate(name, (x, y), fontsize=8, color=INK, **place)
    axes.set_xscale("log")


def draw_level(axes: Any, level: float, label: str) -> None:
    """A dashed line across the panel."""
    axes.axhline(level, color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)), label=label, zorder=1)


def draw_losses(path: str | Path, panels: Mapping[str, pd.DataFrame], *, x: str, y: str, label: str) -> None:
    """Write a figure with a square heat map of losses in per cent for each table; its diagonal is framed.

    Args:
        path: the file.
        panels: tables of numbers up to 0 with equal rows and columns (missing for none), by title.
        x: the name of the columns; ``y``: of the rows.
        label: of the shades.

    Raises:
        PolytaskError: as ``figure``.
    """
    side = 2.4 + 0.42 * max(len(table) for table in panels.values())
    drawn = figure(path, side * len(panels) + 0.8, side - 0.5)
    every = list(drawn.subplots(1, len(panels), squeeze=False)[0])
    look: dict[str, Any] = {"cmap": "Blues_r", "vmin": min(-0.1, *(table.min(axis=None) for table in panels.values()))}
    for axes, (title, table) in zip(every, panels.items(), strict=True):
        texts = table.map(lambda loss: "" if pd.isna(loss) else f"{round(loss)}".replace("-", "−"))
        names = list(map(str, table.index))
        shades = heat_map(
            axes,
            table.clip(upper=0).to_numpy(),
            texts.to_numpy().tolist(),
            names=(names, names),
            framed=[(at, at) for at in range(len(names))],
            fontsize=7.5,
            edge=RULE,
            vmax=0,
            **look,
        )
        axes.set_aspect("equal")
        label_axes(axes, title, x, y)
    colour_bar(drawn, every, shades, label, fraction=0.05)
    save(drawn, path)


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
