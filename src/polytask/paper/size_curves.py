"""Scores by the number of parameters that a method trains for a task: Figures 1, 3, 4 and 5."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from polytask.drawing.exhibit import Exhibit, grouped
from polytask.drawing.figures import COLOURS, label_axes
from polytask.drawing.panels import draw_level, draw_panels, draw_ranges
from polytask.evaluation.model_selection import choose, over_seeds
from polytask.paper.selection import seen_by
from polytask.suites.published import SAYS
from polytask.suites.tasks import Suite, listed_tasks
from polytask.wording import apart, counted, listed

NAMES = {"adapters": "adapters", "top": "top layers", "layernorm": "LayerNorms only", "full": "full fine-tuning"}
STYLES = {"adapters": "o-", "top": "s-", "layernorm": "D"}
COLUMNS = ("task", "method", "size", "trained", "score", "sem", "seeds", "settings")
PERCENTILES = (20, 50, 80)
SUITES: Mapping[Suite, str] = {"glue": "GLUE", "text17": "17 further tasks"}
TASKS: Mapping[str, str] = {"MNLI-m": "MNLI-m, accuracy", "CoLA": "CoLA, Matthews correlation"}
"""The tasks of Figure 4."""
POINTS = {("adapters", 64): "adapters 64", ("top", 1): "top 1", ("layernorm", 0): "LayerNorms"}
"""The methods of Figure 4 that are compared in words."""


def scores_by_size(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per task, method and size: the test score, in per cent, of the setting that validation chose.

    Parameters are those below the head.
    """
    keys = ("suite", "task", "method", "size")
    scores = over_seeds(choose(runs[runs.method.isin(NAMES)], *keys), *keys).rename(columns={"mean": "score"})
    return scores.sort_values(["method", "size"], kind="stable")


def _draw_methods(
    axes: Any, rows: pd.DataFrame, ends: tuple[str, str, str], level: float | None, *, is_band: bool = False
) -> None:
    """Adapters and top layers as lines, LayerNorms as a point, full fine-tuning as a dashed line at ``level``.

    Args:
        axes: where to draw.
        rows: a point each.
        ends: the columns of the lower end, the middle and the upper end of each point.
        level: of full fine-tuning; None if it was not run.
        is_band: draws the range of lines as a band instead of error bars.
    """
    by_method = grouped(rows, "method")
    for method in (name for name in STYLES if name in by_method):
        own = by_method[method]
        draw_ranges(
            axes,
            own,
            ("trained", *ends),
            colour=COLOURS[method],
            label=NAMES[method],
            style=STYLES[method],
            is_band=is_band and method != "layernorm",
            names=[str(size or "") for size in own["size"]],
            is_named_above=method == "top",
        )
    if level is not None:
        draw_level(axes, level, NAMES["full"])
    axes.set_xscale("log")
    axes.margins(y=0.14)


def _draw_scores(rows: pd.DataFrame, path: Path, titles: Mapping[str, str], x: str, y: str, width: float = 5.2) -> None:
    """A panel per task: scores with standard errors over seeds against trained parameters."""

    def draw_one(axes: Any, task: str, own: pd.DataFrame) -> None:
        sem, level = own["sem"].fillna(0), next(iter(own.score[own.method == "full"]), None)
        _draw_methods(axes, own.assign(low=own.score - sem, high=own.score + sem), ("low", "score", "high"), level)
        label_axes(axes, titles[task], x, y)

    draw_panels(path, grouped(rows, "task"), draw_one, width)


# -- Figures 1 and 3: what is lost against full fine-tuning -----------------------------------------------------------


def tradeoff_rows(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per suite, method and size: percentiles over tasks of test score minus full fine-tuning's, in points.

    ``trained`` is the median over these tasks of the parameters trained below the head.
    """
    tasks = [task.name for suite in SUITES for task in listed_tasks(suite)]
    scores = scores_by_size(runs[runs.task.isin(tasks)])
    full = scores[scores.method == "full"].set_index("task").score
    scores = scores[(scores.method != "full") & scores.task.isin(full.index)]
    scores = scores.assign(loss=scores.score - scores.task.map(full).astype(float))
    groups = scores.groupby(["suite", "method", "size"])
    percentiles = {f"p{at}": groups.loss.agg(lambda loss, at=at: np.percentile(loss, at)) for at in PERCENTILES}
    columns = {"trained": groups.trained.median().astype(int), "tasks": groups.loss.size(), **percentiles}
    return pd.DataFrame(columns).reset_index()


def draw_tradeoff(rows: pd.DataFrame, path: str | Path) -> None:
    """A panel per suite: the median as a line, a band from the 20th to the 80th percentile."""

    def draw_one(axes: Any, suite: Suite, own: pd.DataFrame) -> None:
        _draw_methods(axes, own, ("p20", "p50", "p80"), 0, is_band=True)
        fewest, most = own.tasks.min(), own.tasks.max()
        tasks = counted(most, "task") if fewest == most else f"{fewest} to {most} tasks"
        y = f"test score − full fine-tuning's, points ({tasks})"
        label_axes(axes, SUITES[suite], "parameters trained per task, without the head", y)

    draw_panels(path, grouped(rows, "suite"), draw_one)  # type: ignore[arg-type]


def tradeoff_reading(rows: pd.DataFrame) -> str:
    """What adapters of about size 64 lose, and what the fewest top layers lose."""
    said = []
    for suite, own in grouped(rows, "suite").items():
        adapters, tops = own[own.method == "adapters"], own[own.method == "top"]
        if adapters.empty:
            continue
        row = adapters.loc[(adapters["size"] - 64).abs().idxmin()]
        top = ""
        if len(tops):
            least = tops.loc[tops.trained.idxmin()]
            layers = "the top layer" if least["size"] == 1 else f"the top {least['size']} layers"
            top = f", fine-tuning {layers} alone ({least.trained:,}) {apart(least.p50)}"
        said.append(
            f"{SUITES[suite]}: adapters of size {row['size']} ({row.trained:,} parameters) are "
            f"{apart(row.p50, 'full fine-tuning')} in the median of {counted(row.tasks, 'task')}{top}."
        )
    return " ".join(said) or "No adapters were run beside full fine-tuning."


TRADEOFF = Exhibit(
    "tradeoff",
    "Figures 1 and 3: accuracy against trained parameters",
    SAYS["tradeoff"],
    "the trade-off needs a task with full fine-tuning and another method, and there is none",
    ("suite", "method", "size", "trained", "tasks", *(f"p{at}" for at in PERCENTILES)),
    tradeoff_rows,
    tradeoff_reading,
    draw_tradeoff,
)


# -- Figure 4: two tasks of GLUE --------------------------------------------------------------------------------------


def task_rows(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per task, method and size."""
    scores = scores_by_size(runs[runs.task.isin(TASKS)])
    sized = [own for task in TASKS if (own := scores[scores.task == task])["size"].any()]
    return pd.concat([scores.iloc[:0], *sized])


def task_reading(rows: pd.DataFrame) -> str:
    """How far the cheapest and the usual adapters are from full fine-tuning."""
    said = []
    for task, own in grouped(rows, "task").items():
        scores = dict(zip(zip(own.method, own["size"]), own.score))
        if (full := scores.get(("full", 0))) is not None:
            parts = [f"{POINTS[key]} {score - full:+.1f}" for key, score in scores.items() if key in POINTS]
            compared = f"{task}, against full fine-tuning: {', '.join(parts)} points.".replace(" -", " −")
            said += [compared] if parts else []
    return " ".join(said) or "Full fine-tuning was not run beside them, so nothing compares."


TASKS_TRADEOFF = Exhibit(
    "tradeoff-tasks",
    "Figure 4: MNLI and CoLA against trained parameters",
    SAYS["tradeoff-tasks"],
    f"Figure 4 needs adapters or top layers on {listed(list(TASKS), 'or')}: there are none",
    COLUMNS,
    task_rows,
    task_reading,
    partial(_draw_scores, titles=TASKS, x="parameters trained for the task, without the head", y="test score × 100"),
    plan="tradeoff",
)


# -- Figure 5: SQuAD --------------------------------------------------------------------------------------------------


def squad_rows(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per method and size with its F1 in per cent."""
    return scores_by_size(runs[runs.suite == "squad"])


def squad_reading(rows: pd.DataFrame) -> str:
    """The smallest and the largest adapters against full fine-tuning."""
    scores = rows.set_index(["method", "size"]).score
    seen = " The backbone saw SQuAD in its own training." if "squad" in seen_by(rows.entry) else ""
    if not {"full", "adapters"} <= set(rows.method):
        return f"Full fine-tuning and adapters were not both run, so nothing compares.{seen}"
    full, sizes = scores["full", 0], scores["adapters"].index
    ends = dict.fromkeys((sizes.min(), sizes.max()))
    parts = [f"of size {size} {apart(scores['adapters', size] - full)}" for size in ends]
    return f"Full fine-tuning reaches an F1 of {full:.1f}; adapters {' and '.join(parts)}.{seen}"


SQUAD = Exhibit(
    "squad",
    "Figure 5: SQuAD against trained parameters",
    SAYS["squad"],
    "Figure 5 needs SQuAD, and the results hold no finished run of it",
    COLUMNS,
    squad_rows,
    squad_reading,
    lambda rows, path: _draw_scores(
        rows, path, {"squad": "SQuAD v1.1"}, "parameters trained, without the head", "F1 on dev × 100", 6
    ),
)
