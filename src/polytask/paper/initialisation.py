"""Figure 6, right: the standard deviation of the adapters' initial weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from polytask.drawing.figures import label_axes
from polytask.paper.exhibit import Exhibit, grouped
from polytask.paper.panels import draw_band, draw_panels
from polytask.paper.selection import over_seeds, sweep
from polytask.paper.wording import number_of
from polytask.training.grid import value_in_words

CLOSE = 1.0
"""Scores within so many points of the best count as equal to it."""

COLUMNS = ("task", "metric", "init_std", "lr", "score", "low", "high", "seeds", "diverged")
LINES = ("#2f6fd0", "#d4730b", "#2e9d55", "#8250c4", "#c2417c", "#3a9aa8")


def initialisation_rows(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per task and standard deviation: test accuracy (or the task's metric) in per cent, mean and range.

    The settings of a task differ in nothing else.
    """
    own = runs[runs.is_plain]
    own = own.assign(metric=own.metric.where(own.accuracy.isna(), "accuracy"), test=own.accuracy.fillna(own.test))
    swept = [sweep(of_task, "init_std") for of_task in grouped(own, "task").values()]
    rows = over_seeds(pd.concat(swept or [own]), "task", "init_std").rename(columns={"mean": "score"})
    return rows.fillna({"metric": "score"})


def draw_initialisation(rows: pd.DataFrame, path: str | Path) -> None:
    """A line per task: the mean over seeds with a band from the worst to the best."""

    def draw_one(axes: Any, title: str, every: pd.DataFrame) -> None:
        for at, (task, own) in enumerate(grouped(every, "task").items()):
            scored, colour = own.dropna(subset="score"), LINES[at % len(LINES)]
            draw_band(axes, scored, ("init_std", "low", "score", "high"), colour=colour, label=task)
        metrics = " / ".join(every.metric.unique())
        label_axes(axes, title, "standard deviation of the initial weights", f"test {metrics} × 100")

    draw_panels(path, {"Initialisation of adapters": rows}, draw_one, width=6)


def initialisation_reading(rows: pd.DataFrame) -> str:
    """At how many standard deviations scores are equal, and which is worst."""
    said = []
    for task, every in grouped(rows, "task").items():
        own = every.dropna(subset="score")
        if own.empty:
            said.append(f"{task}: every run diverged.")
            continue
        best, worst = own.loc[own.score.idxmax()], own.loc[own.score.idxmin()]
        close = (own.score >= best.score - CLOSE).sum()
        at = f", worst at {value_in_words(worst.init_std)} ({worst.score:.1f})" if close < len(own) else ""
        said.append(
            f"{task}: within {CLOSE:g} point of its best ({best.metric} {best.score:.1f}) at {close} of "
            f"{number_of(len(own), 'standard deviation')}{at}."
        )
    return " ".join(said)


EXHIBIT = Exhibit(
    "init",
    "Figure 6, right: initialisation of adapters",
    "BERT-base, size 64, MNLI and CoLA in accuracy: the same for standard deviations up to 1e-2, worse above, "
    "most of all on CoLA.",
    "the initialisation sweep needs adapters with two or more initial standard deviations",
    COLUMNS,
    initialisation_rows,
    initialisation_reading,
    draw_initialisation,
)
