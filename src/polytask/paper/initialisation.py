"""Figure 6, right: the standard deviation of the adapters' initial weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from polytask.paper.exhibit import Entries, Exhibit, Rows, grouped
from polytask.paper.figures import draw_band, draw_panels, label_axes
from polytask.paper.selection import ADAPTERS, NothingToShow, Setting, curve_point, family, settings, sweep_of
from polytask.paper.wording import number_of
from polytask.training.grid import value_in_words

CLOSE = 1.0
"""Scores within so many points of the best count as equal to it."""

LINES = ("#2f6fd0", "#d4730b", "#2e9d55", "#8250c4", "#c2417c", "#3a9aa8")


def initialisation_rows(entries: Entries) -> Rows:
    """One row per task and standard deviation: test accuracy (or the task's metric) in per cent, mean and range.

    The settings of a task differ in nothing else.
    """
    found = [setting for setting in settings(entries) if _differs_in_initialisation_only(setting)]
    rows = []
    for task in dict.fromkeys(setting.task for setting in found):
        for init_std, setting in sweep_of([s for s in found if s.task == task], "init_std").items():
            score, metric = setting.metric("accuracy"), "accuracy"
            if score is None:
                score = setting.test()
                metric = next((entry.test.metric for entry in setting.entries if entry.test), "score")
            row = {"task": task, "metric": metric, "init_std": init_std, "lr": setting.recipe.get("lr")}
            rows.append({**row, **curve_point(setting, score, "score")})
    if not rows:
        raise NothingToShow("the initialisation sweep needs adapters with two or more initial standard deviations")
    return rows


def _differs_in_initialisation_only(setting: Setting) -> bool:
    return family({**setting.method, "init_std": 1e-2}) == ADAPTERS


def draw_initialisation(entries: Entries, path: str | Path) -> None:
    """A line per task: the mean over seeds with a band from the worst to the best."""
    every = initialisation_rows(entries)

    def draw_one(axes: Any, title: str, rows: Any) -> None:
        for at, (task, own) in enumerate(grouped(rows, "task").items()):
            scored = [row for row in own if row["score"] is not None]
            draw_band(axes, scored, ("init_std", "low", "score", "high"), colour=LINES[at % len(LINES)], label=task)
        metrics = " / ".join(dict.fromkeys(str(row["metric"]) for row in rows))
        label_axes(axes, title, "standard deviation of the initial weights", f"test {metrics} × 100")

    draw_panels(path, {"Initialisation of adapters": every}, draw_one, width=6)


def initialisation_reading(entries: Entries) -> str:
    """At how many standard deviations scores are equal, and which is worst."""
    said = []
    for task, rows in grouped(initialisation_rows(entries), "task").items():
        own = [row for row in rows if row["score"] is not None]
        if not own:
            said.append(f"{task}: every run diverged.")
            continue
        best, worst = (pick(own, key=lambda row: row["score"]) for pick in (max, min))
        close = sum(row["score"] >= best["score"] - CLOSE for row in own)
        at = f", worst at {value_in_words(worst['init_std'])} ({worst['score']:.1f})" if close < len(own) else ""
        said.append(
            f"{task}: within {CLOSE:g} point of its best ({best['metric']} {best['score']:.1f}) at {close} of "
            f"{number_of(len(own), 'standard deviation')}{at}."
        )
    return " ".join(said)


EXHIBIT = Exhibit(
    "init",
    "Figure 6, right: initialisation of adapters",
    "BERT-base, size 64, MNLI and CoLA in accuracy: the same for standard deviations up to 1e-2, worse above, "
    "most of all on CoLA.",
    initialisation_rows,
    initialisation_reading,
    draw_initialisation,
)
