"""Figure 6, left and centre: the trained adapters of a span of layers taken out again, without retraining."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from polytask.paper.figures import COLOURS, INK, MUTED, RULE, figure, labelled, save
from polytask.paper.ledger import Entry
from polytask.paper.selection import NothingToShow, Setting, choose, settings
from polytask.paper.size_curve import Row
from polytask.paper.wording import number_of

IN_PAPER = (
    "BERT-base, size 64, MNLI and CoLA in accuracy: taking out any one layer costs 2% at most, taking out all leaves "
    "the majority class (MNLI 37%, CoLA 69%), and the lowest layers matter least."
)
MEASURE = "ablation"
MOST_PANELS, NOTHING = 2, "nothing"
FIRST = ("MNLI-m", "CoLA")
"""The paper's tasks, drawn before others."""


def rows(entries: Sequence[Entry]) -> list[Row]:
    """One line a task and span of layers, counted from 0, both ends included: the score that is left and the relative
    change against the whole adapter, in per cent, means over seeds.

    Raises:
        NothingToShow: no entry has been ablated.
    """
    found = [setting for setting in settings(entries) if any(MEASURE in entry.measured for entry in setting.entries)]
    lines = [line for task in _tasks(found) for line in _of_task([s for s in found if s.task == task])]
    if not lines:
        raise NothingToShow(f"the ablation needs finished entries that measured {MEASURE!r}, and there is none")
    return lines


def _tasks(found: Sequence[Setting]) -> list[str]:
    names = list(dict.fromkeys(setting.task for setting in found))
    return [*(name for name in FIRST if name in names), *(name for name in names if name not in FIRST)]


def _of_task(found: Sequence[Setting]) -> list[Row]:
    choice = choose(found)
    if choice is None:
        return []
    measured = [entry.measured[MEASURE] for entry in choice.setting.entries if MEASURE in entry.measured]
    num_layers = len(measured[0]["scores"])
    lines = []
    for first in range(num_layers):
        for last in range(first, num_layers):
            left = [(one["scores"][first][last], one["full"]) for one in measured]
            change = fmean((score - full) / full if full else 0.0 for score, full in left)
            line = {"task": choice.setting.task, "metric": measured[0]["metric"], "first": first, "last": last}
            score = 100 * fmean(score for score, _ in left)
            lines.append({**line, "score": score, "change": 100 * change, "seeds": len(left)})
    return lines


def draw(entries: Sequence[Entry], path: str | Path) -> None:
    """A heat map a task: rows are the first layer taken out, columns the last; single layers are framed.

    Raises:
        NothingToShow: as ``rows``.
    """
    lines = rows(entries)
    tasks = list(dict.fromkeys(line["task"] for line in lines))[:MOST_PANELS]
    num_layers = 1 + max(line["last"] for line in lines)
    side = 2.4 + 0.42 * num_layers
    drawn = figure(path, side * len(tasks) + 0.8, side - 0.5)
    axes = list(drawn.subplots(1, len(tasks), squeeze=False)[0])
    worst = min(-0.1, *(line["change"] for line in lines if line["task"] in tasks))
    for own, task in zip(axes, tasks, strict=True):
        shades = _heat(own, [line for line in lines if line["task"] == task], worst)
    bar = drawn.colorbar(shades, ax=axes, pad=0.02, fraction=0.05)
    bar.set_label("relative change, %", fontsize=9.5, color=INK)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8.5, length=0, labelcolor=MUTED)
    save(drawn, path)


def _heat(axes: Any, lines: Sequence[Row], worst: float) -> Any:
    import numpy as np
    from matplotlib.patches import Rectangle

    num_layers = 1 + max(line["last"] for line in lines)
    grid = np.full((num_layers, num_layers), np.nan)
    for line in lines:
        grid[line["first"], line["last"]] = min(line["change"], 0.0)
    shades = axes.pcolormesh(grid, cmap="Blues_r", vmin=worst, vmax=0, edgecolor=RULE, linewidth=0.4)
    for line in lines:
        is_dark = line["change"] < worst * 0.55
        style = {"color": "#fdfdfd" if is_dark else "#111111", "ha": "center", "va": "center", "fontsize": 7.5}
        axes.text(line["last"] + 0.5, line["first"] + 0.5, _whole(line["change"]), **style)
        if line["first"] == line["last"]:
            place = (line["last"] + 0.04, line["first"] + 0.04)
            axes.add_patch(Rectangle(place, 0.92, 0.92, fill=False, edgecolor=COLOURS["layernorm"], linewidth=1.6))
    axes.set_xticks([at + 0.5 for at in range(num_layers)], range(num_layers))
    axes.set_yticks([at + 0.5 for at in range(num_layers)], range(num_layers))
    axes.invert_yaxis()
    axes.set_aspect("equal")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelcolor=MUTED, labelsize=9)
    axes.patch.set_alpha(0)
    labelled(axes, f"{lines[0]['task']}, {lines[0]['metric']}", "last layer taken out", "first layer taken out")
    return shades


def reading(entries: Sequence[Entry]) -> str:
    """The dearest single layer, and what is left without any."""
    lines, said = rows(entries), []
    for task in dict.fromkeys(line["task"] for line in lines):
        own = [line for line in lines if line["task"] == task]
        single = [line for line in own if line["first"] == line["last"]]
        dearest, lowest = min(single, key=lambda line: line["change"]), single[0]
        everything = next(line for line in own if line["first"] == 0 and line["last"] == single[-1]["last"])
        which = f" at most (layer {dearest['last']})" if _cost(dearest) != NOTHING else ""
        said.append(
            f"{task}: taking out one layer costs {_cost(dearest)}{which}, the lowest {_cost(lowest)}, all "
            f"{number_of(len(single), 'layer')} {_cost(everything)}, which leaves "
            f"{everything['metric']} {everything['score']:.1f}."
        )
    return " ".join(said)


def _whole(change: float) -> str:
    """``−3``; 0 has no sign."""
    return f"{round(change)}".replace("-", "−")


def _cost(line: Row) -> str:
    return NOTHING if line["change"] >= -0.05 else f"{-line['change']:.1f}%"
