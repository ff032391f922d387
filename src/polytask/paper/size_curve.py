"""Scores of methods by the number of parameters that they train: what Figures 1, 3, 4 and 5 are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from polytask.paper.figures import COLOURS, INK, MUTED, room
from polytask.paper.ledger import Suite
from polytask.paper.selection import Choice, Setting, choose, of_task

NAMES = {"adapters": "adapters", "top": "top layers", "layernorm": "LayerNorms only", "full": "full fine-tuning"}
Row = dict[str, Any]


def by_size(found: Sequence[Setting], suite: Suite, task: str) -> dict[tuple[str, int], Choice]:
    """The setting that validation chose for each family and size (0 for what has none), the smallest first."""
    own = of_task(found, suite, task, lambda setting: setting.family in NAMES)
    keys = {(setting.family, setting.size or 0) for setting in own}
    chosen = {key: choose([s for s in own if (s.family, s.size or 0) == key]) for key in sorted(keys)}
    return {key: choice for key, choice in chosen.items() if choice}


def scores_by_size(found: Sequence[Setting], suite: Suite, task: str) -> list[Row]:
    """One line a family and size: trained parameters below the head, test score and standard error in per cent."""
    rows = []
    for (family, size), choice in by_size(found, suite, task).items():
        score = choice.setting.test()
        assert score is not None, "what was chosen has a score"
        rows.append(
            {
                "task": task,
                "method": family,
                "size": size or None,
                "trained": choice.setting.num_trained_below,
                "score": 100 * score.mean,
                "sem": None if score.sem is None else 100 * score.sem,
                "seeds": score.num_seeds,
                "settings": choice.num_settings,
            }
        )
    return rows


def draw_by_size(axes: Any, rows: Iterable[Row]) -> None:
    """Adapters and top layers as lines with error bars, LayerNorms as a point, full fine-tuning as a line across."""
    rows = list(rows)
    for family, style in (("adapters", "o-"), ("top", "s-"), ("layernorm", "D")):
        own = [row for row in rows if row["method"] == family]
        if not own:
            continue
        xs, ys = [row["trained"] for row in own], [row["score"] for row in own]
        errors = [row["sem"] or 0 for row in own]
        axes.errorbar(xs, ys, errors, fmt=style, color=COLOURS[family], label=NAMES[family], capsize=2.5, **LINE)
        is_top = family == "top"
        ends = [y + error if is_top else y - error for y, error in zip(ys, errors, strict=True)]
        name_sizes(axes, [row["size"] for row in own], xs, ends, above=is_top)
    for row in (row for row in rows if row["method"] == "full"):
        across(axes, row["score"])
    axes.set_xscale("log")
    axes.margins(y=0.14)
    room(axes)


LINE = {"markersize": 4.5, "linewidth": 1.7}


def across(axes: Any, height: float) -> None:
    """Full fine-tuning as a line from side to side."""
    axes.axhline(height, color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)), label=NAMES["full"], zorder=1)


def name_sizes(
    axes: Any, sizes: Sequence[int | None], xs: Sequence[float], ys: Sequence[float], *, above: bool = False
) -> None:
    """The size under each point of adapters, or above each of top layers, ``ys`` being how far it reaches there."""
    for size, x, y in zip(sizes, xs, ys, strict=True):
        if size:
            place = {
                "textcoords": "offset points",
                "xytext": (0, 5 if above else -5),
                "ha": "center",
                "va": "bottom" if above else "top",
            }
            axes.annotate(str(size), (x, y), fontsize=8, color=INK, **place)
