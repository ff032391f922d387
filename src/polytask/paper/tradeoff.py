"""Figures 1, 3 and 4: what is lost against full fine-tuning, by the number of parameters trained for a task."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from polytask.paper.figures import COLOURS, labelled, legend, panels, room, save
from polytask.paper.ledger import Entry, Suite
from polytask.paper.published import LAYERNORM_BEHIND, MNLI_TRADE_OFF
from polytask.paper.selection import NothingToShow, Setting, settings
from polytask.paper.size_curve import LINE, NAMES, Row, across, by_size, draw_by_size, name_sizes, scores_by_size
from polytask.paper.wording import apart, listed, number_of
from polytask.suites.glue import GLUE
from polytask.suites.text17 import TEXT17

PERCENTILES = (20, 50, 80)
SUITES: Mapping[Suite, tuple[str, tuple[str, ...]]] = {
    "glue": ("GLUE", tuple(task.name for task in GLUE.values() if task.in_mean)),
    "text17": ("17 further tasks", tuple(TEXT17)),
}
OF_TASKS: Mapping[str, str] = {"MNLI-m": "MNLI-m, accuracy", "CoLA": "CoLA, Matthews correlation"}
"""The tasks of Figure 4."""


def rows(entries: Sequence[Entry]) -> list[Row]:
    """One line a suite, method and size: the 20th, 50th and 80th percentile over tasks of test score minus that of full
    fine-tuning, in points; ``trained`` is the median over these tasks, heads aside.

    Raises:
        NothingToShow: no task has both full fine-tuning and another method.
    """
    found = settings(entries)
    lines = [line for suite in SUITES for line in _of_suite(found, suite)]
    if not lines:
        raise NothingToShow("the trade-off needs a task with full fine-tuning and another method, and there is none")
    return lines


def _of_suite(found: Sequence[Setting], suite: Suite) -> list[Row]:
    behind: dict[tuple[str, int], list[tuple[int, float]]] = defaultdict(list)
    for task in SUITES[suite][1]:
        chosen = by_size(found, suite, task)
        full = chosen.get(("full", 0))
        base = full and full.setting.test()
        for key, choice in chosen.items():
            score = choice.setting.test()
            if base and score and key[0] != "full":
                behind[key].append((choice.setting.num_trained_below, 100 * (score.mean - base.mean)))
    lines = []
    for (family, size), points in sorted(behind.items()):
        low, middle, high = (float(value) for value in np.percentile([loss for _, loss in points], PERCENTILES))
        trained = int(np.median([count for count, _ in points]))
        own = {"suite": suite, "method": family, "size": size or None, "trained": trained}
        lines.append({**own, "tasks": len(points), "p20": low, "p50": middle, "p80": high})
    return lines


def draw(entries: Sequence[Entry], path: str | Path) -> None:
    """A panel a suite: the median as a line, the band from the 20th to the 80th percentile.

    Raises:
        NothingToShow: as ``rows``.
    """
    lines = rows(entries)
    suites = [suite for suite in SUITES if any(line["suite"] == suite for line in lines)]
    drawn, axes = panels(path, len(suites), width=5.2)
    for own, suite in zip(axes, suites, strict=True):
        _draw_suite(own, [line for line in lines if line["suite"] == suite])
        labelled(own, SUITES[suite][0], "parameters trained for a task, head aside", _against(lines, suite))
    legend(drawn)
    save(drawn, path)


def _against(lines: Sequence[Row], suite: Suite) -> str:
    counts = {line["tasks"] for line in lines if line["suite"] == suite}
    over = f"{min(counts)} to {max(counts)} tasks" if len(counts) > 1 else number_of(max(counts), "task")
    return f"test score − full fine-tuning's, points ({over})"


def _draw_suite(axes: Any, lines: Sequence[Row]) -> None:
    for family, style in (("adapters", "o-"), ("top", "s-")):
        own = [line for line in lines if line["method"] == family]
        if own:
            xs, low, middle, high = ([line[name] for line in own] for name in ("trained", "p20", "p50", "p80"))
            axes.fill_between(xs, low, high, color=COLOURS[family], alpha=0.18, linewidth=0)
            axes.plot(xs, middle, style, color=COLOURS[family], label=NAMES[family], **LINE)
            is_top = family == "top"
            name_sizes(axes, [line["size"] for line in own], xs, high if is_top else low, above=is_top)
    for line in (line for line in lines if line["method"] == "layernorm"):
        reach = [[line["p50"] - line["p20"]], [line["p80"] - line["p50"]]]
        look = {"color": COLOURS["layernorm"], "label": NAMES["layernorm"], "capsize": 2.5, **LINE}
        axes.errorbar([line["trained"]], [line["p50"]], reach, fmt="D", **look)
    across(axes, 0)
    axes.set_xscale("log")
    axes.margins(y=0.1)
    room(axes)


def reading(entries: Sequence[Entry]) -> str:
    """What adapters lose at the size of the paper's claim, and what training as much of the top layers loses."""
    lines, said = rows(entries), []
    for suite, (name, _) in SUITES.items():
        own = [line for line in lines if line["suite"] == suite]
        adapters = [line for line in own if line["method"] == "adapters"]
        if adapters:
            line = min(adapters, key=lambda line: abs(line["size"] - 64))
            words = apart(line["p50"], "full fine-tuning")
            said.append(
                f"{name}: adapters of size {line['size']} ({line['trained']:,} parameters) are {words} "
                f"in the median of {number_of(line['tasks'], 'task')}"
            )
            tops = [line for line in own if line["method"] == "top"]
            if tops:
                top = min(tops, key=lambda line: line["trained"])
                layers = "the top layer" if top["size"] == 1 else f"the top {top['size']} layers"
                said[-1] += f", fine-tuning {layers} alone ({top['trained']:,}) {apart(top['p50'])}"
            said[-1] += "."
    return " ".join(said) or "No adapters were run beside full fine-tuning."


def task_rows(entries: Sequence[Entry]) -> list[Row]:
    """Figure 4: one line a task, method and size.

    Raises:
        NothingToShow: neither of its tasks was run with adapters or top layers.
    """
    found = settings(entries)
    by_task = {task: scores_by_size(found, "glue", task) for task in OF_TASKS}
    lines = [line for own in by_task.values() if any(line["size"] for line in own) for line in own]
    if not lines:
        raise NothingToShow(f"Figure 4 needs adapters or top layers on {listed(list(OF_TASKS), 'or')}: there are none")
    return lines


def draw_tasks(entries: Sequence[Entry], path: str | Path) -> None:
    """A panel a task: score against trained parameters, with standard errors over seeds.

    Raises:
        NothingToShow: as ``task_rows``.
    """
    lines = task_rows(entries)
    tasks = [task for task in OF_TASKS if any(line["task"] == task for line in lines)]
    drawn, axes = panels(path, len(tasks), width=5.2)
    for own, task in zip(axes, tasks, strict=True):
        draw_by_size(own, [line for line in lines if line["task"] == task])
        labelled(own, OF_TASKS[task], "parameters trained for the task, head aside", "test score × 100")
    legend(drawn)
    save(drawn, path)


def task_reading(entries: Sequence[Entry]) -> str:
    """How far the cheapest and the usual adapters are from full fine-tuning."""
    lines, said = task_rows(entries), []
    for task in OF_TASKS:
        own = {(line["method"], line["size"]): line for line in lines if line["task"] == task}
        full = own.get(("full", None))
        parts = []
        for line in own.values():
            if full and (line["method"], line["size"]) in {("adapters", 64), ("top", 1), ("layernorm", None)}:
                size = f" {line['size']}" if line["size"] else ""
                name = {"adapters": "adapters", "top": "top", "layernorm": "LayerNorms"}[line["method"]] + size
                parts.append(f"{name} {line['score'] - full['score']:+.1f}".replace("-", "−"))
        if parts:
            said.append(f"{task}, against full fine-tuning: {', '.join(parts)} points.")
    return " ".join(said) or "Full fine-tuning was not run beside them, so nothing compares."


TASKS_IN_PAPER = (
    f"On MNLI-m with BERT-base, full fine-tuning {MNLI_TRADE_OFF['full'][1]}, adapters of size 64 (about 2 M "
    f"parameters) {MNLI_TRADE_OFF['adapters 64'][1]}, the top layer alone (about 9 M) {MNLI_TRADE_OFF['top 1'][1]}; "
    f"LayerNorms only about {abs(LAYERNORM_BEHIND['CoLA']):g} points behind on CoLA and "
    f"{abs(LAYERNORM_BEHIND['MNLI-m']):g} on MNLI."
)
