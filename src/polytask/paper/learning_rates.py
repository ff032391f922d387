"""Figure 7: how scores hold up over learning rates, adapters against full fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from polytask.paper.figures import COLOURS, INK, labelled, legend, panels, room, save
from polytask.paper.ledger import Entry
from polytask.paper.selection import NothingToShow, settings, sweep_of
from polytask.paper.size_curve import LINE, NAMES, Row
from polytask.paper.wording import number_of

IN_PAPER = "Learning rates from 2e-5 to 1e-3, three seeds: adapters hold up over a wider range than full fine-tuning."
FAMILIES = ("adapters", "full")
FEWEST, MOST_PANELS = 3, 3
CLOSE = 1.0
"""Points from a method's own best within which a learning rate counts as holding up."""


def rows(entries: Sequence[Entry]) -> list[Row]:
    """One line a task, method and learning rate: the test score in per cent, its mean over seeds, its worst and best,
    of settings that differ in nothing else. Tasks with fewer than three learning rates are left out, those with the
    most come first.

    Raises:
        NothingToShow: no task has three.
    """
    found = settings(entries)
    by_task: dict[str, list[Row]] = {}
    for task in dict.fromkeys(setting.task for setting in found):
        own = [setting for setting in found if setting.task == task]
        lines = []
        for family in FAMILIES:
            for lr, setting in sweep_of([s for s in own if s.family == family], "lr").items():
                score = setting.test()
                line = {"task": task, "method": family, "size": setting.size, "lr": lr}
                for name in ("mean", "low", "high"):
                    line[name] = None if score is None else 100 * getattr(score, name)
                seeds = score.num_seeds if score else 0
                lines.append({**line, "seeds": seeds, "diverged": setting.num_diverged})
        if max((_num_rates(lines, family) for family in FAMILIES), default=0) >= FEWEST:
            by_task[task] = lines
    if not by_task:
        raise NothingToShow(f"Figure 7 needs a task with {FEWEST} learning rates of adapters or of full fine-tuning")
    order = sorted(by_task, key=lambda task: -len(by_task[task]))
    return [line for task in order for line in by_task[task]]


def _num_rates(lines: Sequence[Row], family: str) -> int:
    return sum(line["method"] == family for line in lines)


def draw(entries: Sequence[Entry], path: str | Path) -> None:
    """A panel for each of the first three tasks: means as lines, the worst to the best seed as bands.

    Raises:
        NothingToShow: as ``rows``.
    """
    lines = rows(entries)
    tasks = list(dict.fromkeys(line["task"] for line in lines))[:MOST_PANELS]
    drawn, axes = panels(path, len(tasks), width=5.2 if len(tasks) < 3 else 4.2)
    for own, task in zip(axes, tasks, strict=True):
        for family in FAMILIES:
            _draw_family(own, family, [line for line in lines if line["task"] == task and line["method"] == family])
        own.set_xscale("log")
        own.margins(y=0.2)
        room(own)
        sizes = {line["size"] for line in lines if line["task"] == task and line["size"]}
        labelled(own, f"{task}, adapters of size {min(sizes)}" if sizes else task, "learning rate", "test score × 100")
    legend(drawn)
    save(drawn, path)


def _draw_family(axes: Any, family: str, lines: Sequence[Row]) -> None:
    ended = [line for line in lines if line["mean"] is not None]
    xs, low, middle, high = ([line[name] for line in ended] for name in ("lr", "low", "mean", "high"))
    axes.fill_between(xs, low, high, color=COLOURS[family], alpha=0.18, linewidth=0)
    axes.plot(xs, middle, "o-", color=COLOURS[family], label=NAMES[family], **LINE)
    for line in (line for line in lines if line["diverged"]):
        height = line["mean"] if line["mean"] is not None else 0.0
        text = f"{line['diverged']} of {line['diverged'] + line['seeds']}\ndiverged"
        place = {"textcoords": "offset points", "xytext": (-9, -3), "ha": "right", "va": "center", "fontsize": 8}
        axes.annotate(text, (line["lr"], height), color=INK, **place)
        axes.plot([line["lr"]], [height], "x", color=COLOURS[family], markersize=8)


def reading(entries: Sequence[Entry]) -> str:
    """Over how many learning rates each method stays close to its own best."""
    lines, said = rows(entries), []
    for task in list(dict.fromkeys(line["task"] for line in lines))[:MOST_PANELS]:
        parts = []
        for family in FAMILIES:
            own = [line for line in lines if line["task"] == task and line["method"] == family]
            means = [line["mean"] for line in own if line["mean"] is not None and not line["diverged"]]
            if means:
                close = sum(mean >= max(means) - CLOSE for mean in means)
                parts.append(f"{NAMES[family]} at {close} of {number_of(len(own), 'rate')}")
        if not parts:
            said.append(f"{task}: at every rate a run diverged.")
            continue
        said.append(f"{task}: within {CLOSE:g} point of their own best are {' and '.join(parts)}.")
    return " ".join(said)
