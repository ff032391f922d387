"""Exhibits in which one setting varies alone: learning rates (Figure 7) and initial weights (Figure 6, right)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from polytask.drawing.exhibit import Exhibit, grouped
from polytask.drawing.figures import COLOURS, INK, label_axes
from polytask.drawing.panels import draw_panels, draw_ranges
from polytask.evaluation.model_selection import over_seeds, sweep
from polytask.paper.size_curves import NAMES
from polytask.suites.published import SAYS
from polytask.training.grid import value_in_words
from polytask.wording import counted

CLOSE = 1.0
"""Scores within so many points of the best count as equal to it."""

METHODS = ("adapters", "full")
MIN_RATES, MAX_PANELS = 3, 3
LINES = ("#2f6fd0", "#d4730b", "#2e9d55", "#8250c4", "#c2417c", "#3a9aa8")


# -- learning rates ---------------------------------------------------------------------------------------------------


def learning_rate_rows(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per task, method and learning rate: mean, worst and best test score over seeds, in per cent.

    The settings of a method differ in nothing else. Tasks with most rows come first; those with fewer than three
    learning rates of any method are left out.
    """
    groups = [runs[(runs.task == task) & (runs.method == method)] for task in runs.task.unique() for method in METHODS]
    rows = over_seeds(pd.concat([runs.iloc[:0], *(sweep(own, "lr") for own in groups)]), "task", "method", "lr")
    tasks = [own for own in grouped(rows, "task").values() if own.method.value_counts().max() >= MIN_RATES]
    return pd.concat([rows.iloc[:0], *sorted(tasks, key=len, reverse=True)])


def draw_learning_rates(rows: pd.DataFrame, path: str | Path) -> None:
    """A panel for each of the first three tasks: means as lines, the worst to the best seed as bands."""
    tasks = dict(list(grouped(rows, "task").items())[:MAX_PANELS])
    draw_panels(path, tasks, _draw_rates, width=5.2 if len(tasks) < 3 else 4.2)


def _draw_rates(axes: Any, task: str, rows: pd.DataFrame) -> None:
    for method, own in grouped(rows, "method").items():
        columns = ("lr", "low", "mean", "high")
        draw_ranges(axes, own.dropna(subset="mean"), columns, colour=COLOURS[method], label=NAMES[method])
        for _, row in own[own.diverged > 0].fillna({"mean": 0.0}).iterrows():
            text = f"{row.diverged} of {row.diverged + row.seeds}\ndiverged"
            place = {"textcoords": "offset points", "xytext": (-9, -3), "ha": "right", "va": "center"}
            axes.annotate(text, (row.lr, row["mean"]), color=INK, fontsize=8, **place)
            axes.plot([row.lr], [row["mean"]], "x", color=COLOURS[method], markersize=8)
    axes.margins(y=0.2)
    sizes = set(rows["size"]) - {0}
    label_axes(axes, f"{task}, adapters of size {min(sizes)}" if sizes else task, "learning rate", "test score × 100")


def num_close(rows: pd.DataFrame) -> int:
    """At how many learning rates a method on a task is close to its own best, without a diverged run."""
    means = rows["mean"][rows.diverged == 0]
    return int((means >= means.max() - CLOSE).sum())


def learning_rate_reading(rows: pd.DataFrame) -> str:
    """At how many learning rates each method is close to its own best."""
    said = []
    for task, own in list(grouped(rows, "task").items())[:MAX_PANELS]:
        close = {method: (num_close(points), len(points)) for method, points in grouped(own, "method").items()}
        parts = [f"{NAMES[method]} at {n} of {counted(of, 'rate')}" for method, (n, of) in close.items() if n]
        close_in_words = f"within {CLOSE:g} point of their own best are {' and '.join(parts)}"
        said.append(f"{task}: {close_in_words if parts else 'at every rate a run diverged'}.")
    return " ".join(said)


LEARNING_RATES = Exhibit(
    "lr",
    "Figure 7: learning rates",
    SAYS["lr"],
    f"Figure 7 needs a task with {MIN_RATES} learning rates of adapters or of full fine-tuning",
    ("task", "method", "size", "lr", "mean", "low", "high", "seeds", "diverged"),
    learning_rate_rows,
    learning_rate_reading,
    draw_learning_rates,
)


# -- the standard deviation of the adapters' initial weights ----------------------------------------------------------


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
            scored, columns = own.dropna(subset="score"), ("init_std", "low", "score", "high")
            draw_ranges(axes, scored, columns, colour=LINES[at % len(LINES)], label=task)
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
            f"{counted(len(own), 'standard deviation')}{at}."
        )
    return " ".join(said)


INITIALISATION = Exhibit(
    "init",
    "Figure 6, right: initialisation of adapters",
    SAYS["init"],
    "the initialisation sweep needs adapters with two or more initial standard deviations",
    ("task", "metric", "init_std", "lr", "score", "low", "high", "seeds", "diverged"),
    initialisation_rows,
    initialisation_reading,
    draw_initialisation,
)
