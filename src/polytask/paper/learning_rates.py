"""Figure 7: scores over learning rates, adapters against full fine-tuning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from polytask.drawing.figures import COLOURS, INK, label_axes
from polytask.paper.exhibit import Exhibit, grouped
from polytask.paper.panels import draw_band, draw_panels
from polytask.paper.selection import over_seeds, sweep
from polytask.paper.size_curve import NAMES
from polytask.paper.wording import number_of

COLUMNS = ("task", "method", "size", "lr", "mean", "low", "high", "seeds", "diverged")
METHODS = ("adapters", "full")
MIN_RATES, MAX_PANELS = 3, 3
CLOSE = 1.0
"""A learning rate holds up if its score is within so many points of the method's best."""


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
    draw_panels(path, tasks, _draw_task, width=5.2 if len(tasks) < 3 else 4.2)


def _draw_task(axes: Any, task: str, rows: pd.DataFrame) -> None:
    for method, own in grouped(rows, "method").items():
        columns = ("lr", "low", "mean", "high")
        draw_band(axes, own.dropna(subset="mean"), columns, colour=COLOURS[method], label=NAMES[method])
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
        parts = [f"{NAMES[method]} at {n} of {number_of(of, 'rate')}" for method, (n, of) in close.items() if n]
        close_in_words = f"within {CLOSE:g} point of their own best are {' and '.join(parts)}"
        said.append(f"{task}: {close_in_words if parts else 'at every rate a run diverged'}.")
    return " ".join(said)


EXHIBIT = Exhibit(
    "lr",
    "Figure 7: learning rates",
    "Learning rates from 2e-5 to 1e-3, three seeds: adapters hold up over a wider range than full fine-tuning.",
    f"Figure 7 needs a task with {MIN_RATES} learning rates of adapters or of full fine-tuning",
    COLUMNS,
    learning_rate_rows,
    learning_rate_reading,
    draw_learning_rates,
)
