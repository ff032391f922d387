"""Scores of methods by the number of parameters that they train: what Figures 1, 3, 4 and 5 share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from polytask.paper.exhibit import Entries, Rows
from polytask.paper.figures import COLOURS, INK, LINE, MUTED, draw_band
from polytask.paper.selection import choose, settings

NAMES = {"adapters": "adapters", "top": "top layers", "layernorm": "LayerNorms only", "full": "full fine-tuning"}
STYLES = {"adapters": "o-", "top": "s-", "layernorm": "D"}
COLUMNS = ["task", "method", "size", "trained", "score", "sem", "seeds", "settings"]


def scores_by_size(entries: Entries) -> pd.DataFrame:
    """The setting that validation chose for each task, family and size (0 for methods without one).

    Returns:
        A row each; parameters are those below the head, scores and standard errors in per cent.
    """
    groups: dict[tuple[Any, ...], list[Any]] = {}
    for setting in settings(entries):
        if setting.family in NAMES:
            groups.setdefault((setting.suite, setting.task, setting.family, setting.size or 0), []).append(setting)
    rows = []
    for key, own in groups.items():
        if choice := choose(own):
            score = choice.score.percent
            trained = choice.setting.parameters["trained"]
            rows.append((*key, trained, score.mean, score.sem, score.num_seeds, choice.num_settings))
    return pd.DataFrame(rows, columns=["suite", *COLUMNS]).sort_values(["method", "size"], kind="stable")


def as_rows(scores: pd.DataFrame) -> Rows:
    """The scores as rows of an exhibit, without the suite."""
    rows: Rows = scores[COLUMNS].astype(object).where(scores[COLUMNS].notna(), None).to_dict("records")
    return [{**row, "size": row["size"] or None} for row in rows]


def draw_scores_by_size(axes: Any, rows: Rows) -> None:
    """Scores with standard errors against trained parameters; full fine-tuning as a line across."""
    points = [
        {**row, "low": row["score"] - (row["sem"] or 0), "high": row["score"] + (row["sem"] or 0)} for row in rows
    ]
    level = next((row["score"] for row in rows if row["method"] == "full"), None)
    draw_by_size(axes, points, ("low", "score", "high"), level)


def draw_by_size(
    axes: Any, rows: Rows, columns: tuple[str, str, str], level: float | None, *, is_band: bool = False
) -> None:
    """Adapters and top layers as lines, LayerNorms as a point, full fine-tuning as a dashed line at ``level``.

    Args:
        columns: those of the lower end, the middle and the upper end of each point.
        is_band: draws the range of lines as a band instead of error bars.
    """
    for family, style in STYLES.items():
        own = [row for row in rows if row["method"] == family]
        if not own:
            continue
        look = {"color": COLOURS[family], "label": NAMES[family]}
        xs, low, middle, high = ([row[name] for row in own] for name in ("trained", *columns))
        if is_band and family != "layernorm":
            draw_band(axes, own, ("trained", *columns), colour=look["color"], label=look["label"], style=style)
        else:
            errors = [[m - lo for m, lo in zip(middle, low)], [hi - m for m, hi in zip(middle, high)]]
            axes.errorbar(xs, middle, errors, fmt=style, capsize=2.5, **look, **LINE)
        is_top = family == "top"
        _label_sizes(axes, [row["size"] for row in own], xs, high if is_top else low, above=is_top)
    if level is not None:
        axes.axhline(level, color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)), label=NAMES["full"], zorder=1)
    axes.set_xscale("log")
    axes.margins(y=0.14)


def _label_sizes(axes: Any, sizes: Sequence[int | None], xs: Sequence[float], ys: Sequence[float], above: bool) -> None:
    """Write the size above or below each point (x, y)."""
    look = {"textcoords": "offset points", "xytext": (0, 5 if above else -5), "va": "bottom" if above else "top"}
    for size, x, y in zip(sizes, xs, ys, strict=True):
        if size:
            axes.annotate(str(size), (x, y), fontsize=8, color=INK, ha="center", **look)
