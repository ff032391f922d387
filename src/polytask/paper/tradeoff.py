"""Figures 1, 3 and 4: what is lost against full fine-tuning, by the number of parameters trained per task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from polytask.paper.exhibit import Entries, Exhibit, Rows, grouped
from polytask.paper.figures import draw_panels, label_axes
from polytask.paper.ledger import Suite
from polytask.paper.published import LAYERNORM_BEHIND, MNLI_TRADE_OFF, SIZE_MEANS
from polytask.paper.selection import NothingToShow
from polytask.paper.size_curve import as_rows, draw_by_size, draw_scores_by_size, scores_by_size
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
POINTS = {("adapters", 64): "adapters 64", ("top", 1): "top 1", ("layernorm", None): "LayerNorms"}
"""The methods of Figure 4 that are compared in words."""


def tradeoff_rows(entries: Entries) -> Rows:
    """One row per suite, method and size: percentiles over tasks of test score minus full fine-tuning's, in points.

    ``trained`` is the median over these tasks of the parameters trained below the head.
    """
    scores = scores_by_size(entries)
    scores = scores[scores.task.isin([task for _, tasks in SUITES.values() for task in tasks])]
    full = scores[scores.method == "full"].set_index("task").score
    scores = scores.assign(loss=scores.score - scores.task.map(full))[scores.method != "full"].dropna(subset="loss")
    rows: Rows = []
    for suite in SUITES:
        for (method, size), own in scores[scores.suite == suite].groupby(["method", "size"]):
            row = {"suite": suite, "method": method, "size": size or None, "trained": int(own.trained.median())}
            percentiles = {f"p{at}": float(np.percentile(own.loss, at)) for at in PERCENTILES}
            rows.append({**row, "tasks": len(own), **percentiles})
    if not rows:
        raise NothingToShow("the trade-off needs a task with full fine-tuning and another method, and there is none")
    return rows


def draw_tradeoff(entries: Entries, path: str | Path) -> None:
    """A panel per suite: the median as a line, a band from the 20th to the 80th percentile."""

    def draw_one(axes: Any, suite: Suite, rows: Rows) -> None:
        draw_by_size(axes, rows, ("p20", "p50", "p80"), 0, is_band=True)
        fewest, most = (pick(row["tasks"] for row in rows) for pick in (min, max))
        tasks = number_of(most, "task") if fewest == most else f"{fewest} to {most} tasks"
        y = f"test score − full fine-tuning's, points ({tasks})"
        label_axes(axes, SUITES[suite][0], "parameters trained per task, without the head", y)

    draw_panels(path, grouped(tradeoff_rows(entries), "suite"), draw_one)  # type: ignore[arg-type]


def tradeoff_reading(entries: Entries) -> str:
    """What adapters of about size 64 lose, and what the fewest top layers lose."""
    said = []
    for suite, rows in grouped(tradeoff_rows(entries), "suite").items():
        methods = grouped(rows, "method")
        if "adapters" not in methods:
            continue
        row = min(methods["adapters"], key=lambda row: abs(row["size"] - 64))
        top = ""
        if "top" in methods:
            least = min(methods["top"], key=lambda row: row["trained"])
            layers = "the top layer" if least["size"] == 1 else f"the top {least['size']} layers"
            top = f", fine-tuning {layers} alone ({least['trained']:,}) {apart(least['p50'])}"
        said.append(
            f"{SUITES[suite][0]}: adapters of size {row['size']} ({row['trained']:,} parameters) are "
            f"{apart(row['p50'], 'full fine-tuning')} in the median of {number_of(row['tasks'], 'task')}{top}."
        )
    return " ".join(said) or "No adapters were run beside full fine-tuning."


def task_rows(entries: Entries) -> Rows:
    """Figure 4: one row per task, method and size."""
    scores = scores_by_size([entry for entry in entries if entry.trial.task in TASKS])
    by_task = [as_rows(scores[scores.task == task]) for task in TASKS]
    rows = [row for own in by_task if any(row["size"] for row in own) for row in own]
    if not rows:
        raise NothingToShow(f"Figure 4 needs adapters or top layers on {listed(list(TASKS), 'or')}: there are none")
    return rows


def draw_tasks(entries: Entries, path: str | Path) -> None:
    """A panel per task: score against trained parameters, with standard errors over seeds."""

    def draw_one(axes: Any, task: str, rows: Any) -> None:
        draw_scores_by_size(axes, rows)
        label_axes(axes, TASKS[task], "parameters trained for the task, without the head", "test score × 100")

    draw_panels(path, grouped(task_rows(entries), "task"), draw_one)


def task_reading(entries: Entries) -> str:
    """How far the cheapest and the usual adapters are from full fine-tuning."""
    said = []
    for task, rows in grouped(task_rows(entries), "task").items():
        scores = {(row["method"], row["size"]): row["score"] for row in rows}
        if (full := scores.get(("full", None))) is not None:
            parts = [f"{POINTS[key]} {score - full:+.1f}" for key, score in scores.items() if key in POINTS]
            said += (
                [f"{task}, against full fine-tuning: {', '.join(parts)} points.".replace(" -", " −")] if parts else []
            )
    return " ".join(said) or "Full fine-tuning was not run beside them, so nothing compares."


EXHIBIT = Exhibit(
    "tradeoff",
    "Figures 1 and 3: accuracy against trained parameters",
    "Adapters of every size stay close to full fine-tuning; fine-tuning the top layers alone loses more the "
    "fewer they are. Mean validation accuracy over eight GLUE tasks with sizes "
    f"{listed([str(size) for size in SIZE_MEANS])}: {listed([str(mean) for mean in SIZE_MEANS.values()])}.",
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
    task_rows,
    task_reading,
    draw_tasks,
    plan="tradeoff",
)
