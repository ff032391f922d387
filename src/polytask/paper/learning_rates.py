"""Figure 7: scores over learning rates, adapters against full fine-tuning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from polytask.paper.exhibit import Entries, Exhibit, Rows, grouped
from polytask.paper.figures import COLOURS, INK, draw_band, draw_panels, label_axes
from polytask.paper.selection import NothingToShow, curve_point, settings, sweep_of
from polytask.paper.size_curve import NAMES
from polytask.paper.wording import number_of

FAMILIES = ("adapters", "full")
MIN_RATES, MAX_PANELS = 3, 3
CLOSE = 1.0
"""A learning rate holds up if its score is within so many points of the method's best."""


def learning_rate_rows(entries: Entries) -> Rows:
    """One row per task, method and learning rate: mean, worst and best test score over seeds, in per cent.

    The settings of a method differ in nothing else. Tasks with most rows come first; those with fewer than three
    learning rates of any method are left out.
    """
    found = settings(entries)
    by_task: dict[str, Rows] = {}
    for task in dict.fromkeys(setting.task for setting in found):
        rows = []
        for family in FAMILIES:
            for lr, setting in sweep_of([s for s in found if (s.task, s.family) == (task, family)], "lr").items():
                row = {"task": task, "method": family, "size": setting.size, "lr": lr}
                rows.append({**row, **curve_point(setting, setting.test(), "mean")})
        if max((len(own) for own in grouped(rows, "method").values()), default=0) >= MIN_RATES:
            by_task[task] = rows
    if not by_task:
        raise NothingToShow(f"Figure 7 needs a task with {MIN_RATES} learning rates of adapters or of full fine-tuning")
    return [row for task in sorted(by_task, key=lambda task: -len(by_task[task])) for row in by_task[task]]


def draw_learning_rates(entries: Entries, path: str | Path) -> None:
    """A panel for each of the first three tasks: means as lines, the worst to the best seed as bands."""
    tasks = dict(list(grouped(learning_rate_rows(entries), "task").items())[:MAX_PANELS])
    draw_panels(path, tasks, _draw_task, width=5.2 if len(tasks) < 3 else 4.2)


def _draw_task(axes: Any, task: str, rows: Any) -> None:
    for family, own in grouped(rows, "method").items():
        scored = [row for row in own if row["mean"] is not None]
        draw_band(axes, scored, ("lr", "low", "mean", "high"), colour=COLOURS[family], label=NAMES[family])
        for row in own:
            if row["diverged"]:
                height = 0.0 if row["mean"] is None else row["mean"]
                text = f"{row['diverged']} of {row['diverged'] + row['seeds']}\ndiverged"
                place = {"textcoords": "offset points", "xytext": (-9, -3), "ha": "right", "va": "center"}
                axes.annotate(text, (row["lr"], height), color=INK, fontsize=8, **place)
                axes.plot([row["lr"]], [height], "x", color=COLOURS[family], markersize=8)
    axes.margins(y=0.2)
    sizes = {row["size"] for row in rows if row["size"]}
    label_axes(axes, f"{task}, adapters of size {min(sizes)}" if sizes else task, "learning rate", "test score × 100")


def learning_rate_reading(entries: Entries) -> str:
    """At how many learning rates each method is close to its own best."""
    said = []
    for task, rows in list(grouped(learning_rate_rows(entries), "task").items())[:MAX_PANELS]:
        parts = []
        for family, own in grouped(rows, "method").items():
            means = [row["mean"] for row in own if row["mean"] is not None and not row["diverged"]]
            if means:
                close = sum(mean >= max(means) - CLOSE for mean in means)
                parts.append(f"{NAMES[family]} at {close} of {number_of(len(own), 'rate')}")
        close_in_words = f"within {CLOSE:g} point of their own best are {' and '.join(parts)}"
        said.append(f"{task}: {close_in_words if parts else 'at every rate a run diverged'}.")
    return " ".join(said)


EXHIBIT = Exhibit(
    "lr",
    "Figure 7: learning rates",
    "Learning rates from 2e-5 to 1e-3, three seeds: adapters hold up over a wider range than full fine-tuning.",
    learning_rate_rows,
    learning_rate_reading,
    draw_learning_rates,
)
