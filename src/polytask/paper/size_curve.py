"""Scores of methods by the number of parameters that they train: what Figures 1, 3, 4 and 5 share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from polytask.drawing.figures import COLOURS, INK, MUTED, label_axes
from polytask.paper.exhibit import grouped
from polytask.paper.panels import LINE, draw_band, draw_panels
from polytask.paper.selection import choose, over_seeds

NAMES = {"adapters": "adapters", "top": "top layers", "layernorm": "LayerNorms only", "full": "full fine-tuning"}
STYLES = {"adapters": "o-", "top": "s-", "layernorm": "D"}
COLUMNS = ("task", "method", "size", "trained", "score", "sem", "seeds", "settings")


def scores_by_size(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per task, method and size: the test score, in per cent, of the setting that validation chose.

    Parameters are those below the head.
    """
    keys = ("suite", "task", "method", "size")
    scores = over_seeds(choose(runs[runs.method.isin(NAMES)], *keys), *keys).rename(columns={"mean": "score"})
    return scores.sort_values(["method", "size"], kind="stable")


def draw_scores_by_size(
    rows: pd.DataFrame, path: Path, titles: Mapping[str, str], x: str, y: str, width: float = 5.2
) -> None:
    """A panel per task: scores with standard errors against trained parameters; full fine-tuning as a line across."""

    def draw_one(axes: Any, task: str, own: pd.DataFrame) -> None:
        sem, level = own["sem"].fillna(0), next(iter(own.score[own.method == "full"]), None)
        draw_by_size(axes, own.assign(low=own.score - sem, high=own.score + sem), ("low", "score", "high"), level)
        label_axes(axes, titles[task], x, y)

    draw_panels(path, grouped(rows, "task"), draw_one, width)


def draw_by_size(
    axes: Any, rows: pd.DataFrame, columns: tuple[str, str, str], level: float | None, *, is_band: bool = False
) -> None:
    """Adapters and top layers as lines, LayerNorms as a point, full fine-tuning as a dashed line at ``level``.

    Args:
        columns: those of the lower end, the middle and the upper end of each point.
        is_band: draws the range of lines as a band instead of error bars.
    """
    for method, style in STYLES.items():
        own = rows[rows.method == method]
        if own.empty:
            continue
        look = {"color": COLOURS[method], "label": NAMES[method]}
        xs, low, middle, high = (own[name].to_numpy() for name in ("trained", *columns))
        if is_band and method != "layernorm":
            draw_band(axes, own, ("trained", *columns), colour=look["color"], label=look["label"], style=style)
        else:
            axes.errorbar(xs, middle, [middle - low, high - middle], fmt=style, capsize=2.5, **look, **LINE)
        above = method == "top"
        place = {"textcoords": "offset points", "xytext": (0, 5 if above else -5), "va": "bottom" if above else "top"}
        for size, x, y in zip(own["size"], xs, high if above else low, strict=True):
            if size:
                axes.annotate(str(size), (x, y), fontsize=8, color=INK, ha="center", **place)
    if level is not None:
        axes.axhline(level, color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)), label=NAMES["full"], zorder=1)
    axes.set_xscale("log")
    axes.margins(y=0.14)
