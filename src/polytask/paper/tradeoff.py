"""Figures 1, 3 and 4: what is lost against full fine-tuning, by the number of parameters trained per task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from polytask.drawing.figures import label_axes
from polytask.paper.exhibit import Exhibit, grouped
from polytask.paper.ledger import Suite
from polytask.paper.panels import draw_panels
from polytask.paper.published import LAYERNORM_BEHIND, MNLI_TRADE_OFF, SIZE_MEANS
from polytask.paper.size_curve import COLUMNS, draw_by_size, draw_scores_by_size, scores_by_size
from polytask.paper.wording import apart, listed, number_of
from polytask.suites.glue import GLUE
from polytask.suites.text17 import TEXT17

PERCENTILES = (20, 50, 80)
SUITES: Mapping[Suite, tuple[str, tuple[str, ...]]] = {
    "glue": ("GLUE", tuple(task.name for task in GLUE.values() if task.in_mean)),
    "text17": ("17 further tasks", tuple(TEXT17)),
}
TASKS: Mapping[str, str] = {"MNLI-m": "MNLI-m, accuracy", "CoLA": "CoLA, Matthews correlation"}
"""The tasks of Figure 4."""
POINTS = {("adapters", 64): "adapters 64", ("top", 1): "top 1", ("layernorm", 0): "LayerNorms"}
"""The methods of Figure 4 that are compared in words."""


def tradeoff_rows(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per suite, method and size: percentiles over tasks of test score minus full fine-tuning's, in points.

    ``trained`` is the median over these tasks of the parameters trained below the head.
    """
    scores = scores_by_size(runs[runs.task.isin([task for _, tasks in SUITES.values() for task in tasks])])
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
        draw_by_size(axes, own, ("p20", "p50", "p80"), 0, is_band=True)
        fewest, most = own.tasks.min(), own.tasks.max()
        tasks = number_of(most, "task") if fewest == most else f"{fewest} to {most} tasks"
        y = f"test score − full fine-tuning's, points ({tasks})"
        label_axes(axes, SUITES[suite][0], "parameters trained per task, without the head", y)

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
            f"{SUITES[suite][0]}: adapters of size {row['size']} ({row.trained:,} parameters) are "
            f"{apart(row.p50, 'full fine-tuning')} in the median of {number_of(row.tasks, 'task')}{top}."
        )
    return " ".join(said) or "No adapters were run beside full fine-tuning."


def task_rows(runs: pd.DataFrame) -> pd.DataFrame:
    """Figure 4: one row per task, method and size."""
    scores = scores_by_size(runs[runs.task.isin(TASKS)])
    sized = [own for task in TASKS if (own := scores[scores.task == task])["size"].any()]
    return pd.concat([scores.iloc[:0], *sized])


def draw_tasks(rows: pd.DataFrame, path: Path) -> None:
    """A panel per task: score against trained parameters, with standard errors over seeds."""
    x, y = "parameters trained for the task, without the head", "test score × 100"
    draw_scores_by_size(rows, path, TASKS, x, y)


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


EXHIBIT = Exhibit(
    "tradeoff",
    "Figures 1 and 3: accuracy against trained parameters",
    "Adapters of every size stay close to full fine-tuning; fine-tuning the top layers alone loses more the "
    "fewer they are. Mean validation accuracy over eight GLUE tasks with sizes "
    f"{listed([str(size) for size in SIZE_MEANS])}: {listed([str(mean) for mean in SIZE_MEANS.values()])}.",
    "the trade-off needs a task with full fine-tuning and another method, and there is none",
    ("suite", "method", "size", "trained", "tasks", *(f"p{at}" for at in PERCENTILES)),
    tradeoff_rows,
    tradeoff_reading,
    draw_tradeoff,
)
TASKS_EXHIBIT = Exhibit(
    "tradeoff-tasks",
    "Figure 4: MNLI and CoLA against trained parameters",
    f"On MNLI-m with BERT-base, full fine-tuning {MNLI_TRADE_OFF['full'][1]}, adapters of size 64 (about 2 M "
    f"parameters) {MNLI_TRADE_OFF['adapters 64'][1]}, the top layer alone (about 9 M) {MNLI_TRADE_OFF['top 1'][1]}; "
    f"LayerNorms only about {abs(LAYERNORM_BEHIND['CoLA']):g} points behind on CoLA and "
    f"{abs(LAYERNORM_BEHIND['MNLI-m']):g} on MNLI.",
    f"Figure 4 needs adapters or top layers on {listed(list(TASKS), 'or')}: there are none",
    COLUMNS,
    task_rows,
    task_reading,
    draw_tasks,
    plan="tradeoff",
)
