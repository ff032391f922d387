"""Figures of one panel or several, with one legend below."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from polytask.drawing.figures import INK, figure, save, style_axes

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


def draw_band(
    axes: Any,
    rows: pd.DataFrame,
    columns: tuple[str, str, str, str],
    *,
    colour: str,
    label: str,
    style: str = "o-",
) -> None:
    """A line with a band around it on a logarithmic x axis; ``columns``: x, lower end, middle, upper end."""
    xs, low, middle, high = (rows[name].to_numpy() for name in columns)
    axes.fill_between(xs, low, high, color=colour, alpha=0.18, linewidth=0)
    axes.plot(xs, middle, style, color=colour, label=label, **LINE)
    axes.set_xscale("log")


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
