"""Figure 6, right: the standard deviation from which the adapters' weights start."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from polytask.paper.figures import labelled, legend, panels, room, save
from polytask.paper.ledger import Entry
from polytask.paper.selection import ADAPTERS, NothingToShow, Setting, family, settings, sweep_of
from polytask.paper.size_curve import LINE, Row
from polytask.paper.wording import number_of
from polytask.training.grid import value_in_words

IN_PAPER = (
    "BERT-base, size 64, MNLI and CoLA in accuracy: the same for standard deviations up to 1e-2, worse above, "
    "most of all on CoLA."
)
CLOSE = 1.0
"""Points from its best within which it counts as flat."""

LINES = ("#2f6fd0", "#d4730b", "#2e9d55", "#8250c4", "#c2417c", "#3a9aa8")


def rows(entries: Sequence[Entry]) -> list[Row]:
    """One line a task and standard deviation: accuracy (or else the task's metric) on test in per cent over seeds, of
    settings that differ in nothing else.

    Raises:
        NothingToShow: no task was run with two of them.
    """
    found = [setting for setting in settings(entries) if _is_plain_otherwise(setting)]
    lines = []
    for task in dict.fromkeys(setting.task for setting in found):
        for init_std, setting in sweep_of([s for s in found if s.task == task], "init_std").items():
            score, name = setting.metric("accuracy"), "accuracy"
            if score is None:
                score, name = setting.test(), _metric(setting)
            line = {"task": task, "metric": name, "init_std": init_std, "lr": setting.recipe.get("lr")}
            line |= {"score": None if score is None else 100 * score.mean}
            line |= {
                "low": None if score is None else 100 * score.low,
                "high": None if score is None else 100 * score.high,
            }
            lines.append({**line, "seeds": score.num_seeds if score else 0, "diverged": setting.num_diverged})
    if not lines:
        raise NothingToShow("the initialisation sweep needs adapters that start from two standard deviations or more")
    return lines


def _is_plain_otherwise(setting: Setting) -> bool:
    return family({**setting.method, "init_std": 1e-2}) == ADAPTERS


def _metric(setting: Setting) -> str:
    return next((entry.test.metric for entry in setting.entries if entry.test), "score")


def draw(entries: Sequence[Entry], path: str | Path) -> None:
    """A line a task, the mean over seeds with the band from the worst to the best.

    Raises:
        NothingToShow: as ``rows``.
    """
    lines = rows(entries)
    drawn, (axes,) = panels(path, 1, width=6)
    for at, task in enumerate(dict.fromkeys(line["task"] for line in lines)):
        own = [line for line in lines if line["task"] == task and line["score"] is not None]
        xs, low, middle, high = ([line[name] for line in own] for name in ("init_std", "low", "score", "high"))
        colour = LINES[at % len(LINES)]
        axes.fill_between(xs, low, high, color=colour, alpha=0.18, linewidth=0)
        axes.plot(xs, middle, "o-", color=colour, label=task, **LINE)
    axes.set_xscale("log")
    room(axes)
    metrics = " / ".join(dict.fromkeys(str(line["metric"]) for line in lines))
    labelled(axes, "Where adapters start", "standard deviation of the initial weights", f"test {metrics} × 100")
    legend(drawn)
    save(drawn, path)


def reading(entries: Sequence[Entry]) -> str:
    """Over how many it is flat, and where it is worst."""
    lines, said = rows(entries), []
    for task in dict.fromkeys(line["task"] for line in lines):
        own = [line for line in lines if line["task"] == task and line["score"] is not None]
        if not own:
            said.append(f"{task}: every run diverged.")
            continue
        best, worst = max(own, key=lambda line: line["score"]), min(own, key=lambda line: line["score"])
        close = sum(line["score"] >= best["score"] - CLOSE for line in own)
        said.append(
            f"{task}: within {CLOSE:g} point of its best ({best['metric']} {best['score']:.1f}) at {close} of "
            f"{number_of(len(own), 'standard deviation')}"
        )
        at = f", worst at {value_in_words(worst['init_std'])} ({worst['score']:.1f})"
        said[-1] += "." if close == len(own) else f"{at}."
    return " ".join(said)
