"""Figure 6, left and centre: trained adapters of a span of layers removed without retraining."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from polytask.drawing.exhibit import Exhibit, grouped
from polytask.drawing.panels import draw_losses
from polytask.evaluation.model_selection import choose
from polytask.paper.edition import FIGURE_TASKS
from polytask.paper.ledger import ABLATION
from polytask.suites.published import SAYS
from polytask.wording import counted

COLUMNS = ("task", "metric", "first", "last", "score", "change", "seeds")
MAX_PANELS = 2
NOTHING = "nothing"


def ablation_rows(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per task and span of layers (from 0, ends included): remaining score and relative change, in per cent.

    Both are means over seeds. The paper's tasks come first.
    """
    is_measured = pd.Series([ABLATION in entry.measured for entry in runs.entry], index=runs.index, dtype=bool)
    chosen = choose(runs[is_measured.groupby(runs.setting).transform("any")], "task")
    tasks = sorted(grouped(chosen, "task").items(), key=lambda own: (own[0] not in FIGURE_TASKS, own[0] != "MNLI-m"))
    rows = [row for task, own in tasks for row in _task_rows(task, own.entry)]
    return pd.DataFrame(rows, columns=COLUMNS)


def _task_rows(task: str, entries: pd.Series[Any]) -> list[tuple[Any, ...]]:
    measured = [entry.measured[ABLATION] for entry in entries if ABLATION in entry.measured]
    scores_SLL = np.array([one["scores"] for one in measured], dtype=float)
    full_S11 = np.array([one["full"] for one in measured])[:, None, None]
    change_LL = np.divide(scores_SLL - full_S11, full_S11, out=0 * scores_SLL, where=full_S11 != 0).mean(axis=0)
    means_LL = scores_SLL.mean(axis=0)
    return [
        (task, measured[0]["metric"], i, j, 100 * means_LL[i, j], 100 * change_LL[i, j], len(measured))
        for i, j in np.argwhere(np.triu(np.ones_like(change_LL))).tolist()
    ]


def draw_ablation(rows: pd.DataFrame, path: str | Path) -> None:
    """A heat map per task: rows are the first layer removed, columns the last; single layers are framed."""
    tasks = list(grouped(rows, "task").items())[:MAX_PANELS]
    panels = {
        f"{task}, {own.metric.iloc[0]}": own.pivot(index="first", columns="last", values="change")
        for task, own in tasks
    }
    draw_losses(path, panels, x="last layer removed", y="first layer removed", label="relative change, %")


def ablation_reading(rows: pd.DataFrame) -> str:
    """What the most expensive single layer costs, and what remains without any adapter."""
    said = []
    for task, own in grouped(rows, "task").items():
        single = own[own["first"] == own["last"]]
        worst, lowest = single.loc[single.change.idxmin()], single.iloc[0]
        every = own[(own["first"] == 0) & (own["last"] == own["last"].max())].iloc[0]
        which = f" at most (layer {worst['last']})" if _cost(worst) != NOTHING else ""
        said.append(
            f"{task}: removing one layer costs {_cost(worst)}{which}, the lowest {_cost(lowest)}, all "
            f"{counted(len(single), 'layer')} {_cost(every)}, which leaves {every.metric} {every.score:.1f}."
        )
    return " ".join(said)


def _cost(row: Any) -> str:
    return NOTHING if row.change >= -0.05 else f"{-row.change:.1f}%"


EXHIBIT = Exhibit(
    "ablation",
    "Figure 6, left and centre: adapters removed",
    SAYS["ablation"],
    f"the ablation needs finished runs that measured {ABLATION!r}, and there is none",
    COLUMNS,
    ablation_rows,
    ablation_reading,
    draw_ablation,
)
