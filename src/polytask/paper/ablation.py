"""Figure 6, left and centre: trained adapters of a span of layers removed without retraining."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from polytask.paper.exhibit import Entries, Exhibit, Rows, grouped
from polytask.paper.figures import RULE, colour_bar, figure, heat_map, label_axes, save
from polytask.paper.grids import ABLATION, FIGURE_TASKS
from polytask.paper.selection import NothingToShow, Setting, choose, settings
from polytask.paper.wording import number_of

MAX_PANELS = 2
NOTHING = "nothing"


def ablation_rows(entries: Entries) -> Rows:
    """One row per task and span of layers (from 0, ends included): remaining score and relative change, in per cent.

    Both are means over seeds. The paper's tasks come first.
    """
    found = [setting for setting in settings(entries) if any(ABLATION in entry.measured for entry in setting.entries)]
    tasks = sorted({s.task: None for s in found}, key=lambda task: (task not in FIGURE_TASKS, task != "MNLI-m"))
    rows = [row for task in tasks for row in _task_rows([s for s in found if s.task == task])]
    if not rows:
        raise NothingToShow(f"the ablation needs finished runs that measured {ABLATION!r}, and there is none")
    return rows


def _task_rows(found: Sequence[Setting]) -> Rows:
    choice = choose(found)
    if choice is None:
        return []
    measured = [entry.measured[ABLATION] for entry in choice.setting.entries if ABLATION in entry.measured]
    scores_SLL = np.array([one["scores"] for one in measured], dtype=float)
    full_S11 = np.array([one["full"] for one in measured])[:, None, None]
    change_LL = np.divide(scores_SLL - full_S11, full_S11, out=0 * scores_SLL, where=full_S11 != 0).mean(axis=0)
    about = {"task": choice.setting.task, "metric": measured[0]["metric"]}
    means = {"score": 100 * scores_SLL.mean(axis=0), "change": 100 * change_LL}
    return [
        {
            **about,
            "first": i,
            "last": j,
            **{name: float(own[i, j]) for name, own in means.items()},
            "seeds": len(measured),
        }
        for i, j in np.argwhere(np.triu(np.ones_like(change_LL))).tolist()
    ]


def draw_ablation(entries: Entries, path: str | Path) -> None:
    """A heat map per task: rows are the first layer removed, columns the last; single layers are framed."""
    tasks = list(grouped(ablation_rows(entries), "task").values())[:MAX_PANELS]
    side = 2.4 + 0.42 * (1 + max(row["last"] for rows in tasks for row in rows))
    drawn = figure(path, side * len(tasks) + 0.8, side - 0.5)
    axes = list(drawn.subplots(1, len(tasks), squeeze=False)[0])
    worst = min(-0.1, *(row["change"] for rows in tasks for row in rows))
    for own, rows in zip(axes, tasks, strict=True):
        shades = _draw_task(own, rows, worst)
    colour_bar(drawn, axes, shades, "relative change, %", fraction=0.05)
    save(drawn, path)


def _draw_task(axes: Any, rows: Rows, worst: float) -> Any:
    changes = pd.DataFrame(rows).pivot(index="first", columns="last", values="change")
    texts = changes.map(lambda change: "" if np.isnan(change) else f"{round(change)}".replace("-", "−"))
    names = [str(layer) for layer in changes.index]
    framed = [(layer, layer) for layer in changes.index]
    look: dict[str, Any] = {"cmap": "Blues_r", "vmin": worst, "vmax": 0, "fontsize": 7.5, "edge": RULE}
    shades = heat_map(
        axes, changes.clip(upper=0).to_numpy(), texts.to_numpy().tolist(), names=(names, names), framed=framed, **look
    )
    axes.set_aspect("equal")
    label_axes(axes, f"{rows[0]['task']}, {rows[0]['metric']}", "last layer removed", "first layer removed")
    return shades


def ablation_reading(entries: Entries) -> str:
    """What the most expensive single layer costs, and what remains without any adapter."""
    said = []
    for task, rows in grouped(ablation_rows(entries), "task").items():
        single = [row for row in rows if row["first"] == row["last"]]
        worst, lowest = min(single, key=lambda row: row["change"]), single[0]
        every = next(row for row in rows if row["first"] == 0 and row["last"] == single[-1]["last"])
        which = f" at most (layer {worst['last']})" if _cost(worst) != NOTHING else ""
        said.append(
            f"{task}: removing one layer costs {_cost(worst)}{which}, the lowest {_cost(lowest)}, all "
            f"{number_of(len(single), 'layer')} {_cost(every)}, which leaves {every['metric']} {every['score']:.1f}."
        )
    return " ".join(said)


def _cost(row: dict[str, Any]) -> str:
    return NOTHING if row["change"] >= -0.05 else f"{-row['change']:.1f}%"


EXHIBIT = Exhibit(
    "ablation",
    "Figure 6, left and centre: adapters removed",
    "BERT-base, size 64, MNLI and CoLA in accuracy: removing any one layer costs 2% at most, removing all leaves "
    "the majority class (MNLI 37%, CoLA 69%), and the lowest layers matter least.",
    ablation_rows,
    ablation_reading,
    draw_ablation,
)
