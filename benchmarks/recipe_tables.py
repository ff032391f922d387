"""Tables of the runs of ``recipe_trials.py``, from their files alone; rewrites those in docs/recipes.md.

    python benchmarks/recipe_tables.py                  # docs/recipes.md from results/recipes/
    python benchmarks/recipe_tables.py --print          # all tables, on standard output

The table of a task has a row for each variant; differences are from the first of ``REFERENCES`` on the same seeds, with
Student's paired 95% interval. ``all-tasks`` has the same over all pairs of a task and a seed. ``curves-TASK`` has the
training loss and the validation score of each epoch, ``parity-TASK`` those of the runs of ``parity.py``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from documents import rewrite, with_tables
from polytask.evaluation.significance import student_interval

FOLDER = Path("results/recipes")
REFERENCES = ("adapters@1e-3", "full@1e-4")
"""Both methods with their default learning rates."""

Runs = Mapping[str, Mapping[str, Mapping[int, Any]]]
"""The saved results by task, variant and seed."""


def runs_in(folder: Path) -> Runs:
    """All runs in a folder, the references first."""
    saved = [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]
    saved.sort(key=lambda one: _place(one["variant"]))
    runs: dict[str, dict[str, dict[int, Any]]] = {task: {} for task in sorted({one["task"] for one in saved})}
    for one in saved:
        runs[one["task"]].setdefault(one["variant"], {})[one["recipe"]["seed"]] = one
    return runs


def _place(variant: str) -> tuple[bool, bool, str]:
    return variant != REFERENCES[0], variant not in REFERENCES, variant


def of_task(runs: Runs, task: str) -> Iterator[str]:
    """The table of a task."""
    yield f"| variant | seeds | validation | test | minus {REFERENCES[0]} | 95% interval | last loss | best epoch |"
    yield "|---|---:|---:|---:|---:|---|---:|---:|"
    for variant, by_seed in runs[task].items():
        own = list(by_seed.values())
        validation = fmean(100 * one["validation"]["score"] for one in own)
        loss = fmean(one["history"][-1]["loss"] for one in own)
        best = f"{fmean(one['best_epoch'] for one in own):.1f} of {own[0]['recipe']['epochs']}"
        cells = [variant, len(own), f"{validation:.1f}", spread([*map(reported, own)])]
        cells += [*gain_cells(differences(runs, task, variant)), f"{loss:.2f}", best]
        yield f"| {' | '.join(map(str, cells))} |"


def over_tasks(runs: Runs) -> Iterator[str]:
    """The variants that have run on several tasks, over all pairs of a task and a seed."""
    yield f"| variant | tasks | pairs of runs | minus {REFERENCES[0]} | 95% interval | tasks ahead |"
    yield "|---|---:|---:|---:|---|---:|"
    for variant in sorted({variant for own in runs.values() for variant in own}, key=_place):
        by_task = [gains for task in runs if (gains := differences(runs, task, variant))]
        if len(by_task) > 1:
            pooled = [gain for gains in by_task for gain in gains]
            ahead = sum(fmean(gains) > 0 for gains in by_task)
            cells = [variant, len(by_task), len(pooled), *gain_cells(pooled), f"{ahead} of {len(by_task)}"]
            yield f"| {' | '.join(map(str, cells))} |"


def differences(runs: Runs, task: str, variant: str) -> list[float]:
    """Per seed, the reported score of a variant minus that of the reference; none for the reference itself."""
    base = runs[task].get(REFERENCES[0], {})
    if variant == REFERENCES[0]:
        return []
    own = runs[task].get(variant, {})
    return [reported(own[seed]) - reported(base[seed]) for seed in own if seed in base]


def reported(saved: Mapping[str, Any]) -> float:
    """The score × 100 on test rows, or else on validation rows."""
    return 100 * float((saved["test"] or saved["validation"])["score"])


def curves(runs: Mapping[str, Sequence[Any]]) -> Iterator[str]:
    """Training loss and validation score of each epoch, means over the runs of each name."""
    yield "| variant | seeds | training loss by epoch | validation by epoch | reported |"
    yield "|---|---:|---|---|---:|"
    for name, own in runs.items():
        by_epoch = list(zip(*(one["history"] for one in own), strict=True))
        losses = ", ".join(f"{fmean(each['loss'] for each in epoch):.3f}" for epoch in by_epoch)
        scores = ", ".join(f"{100 * fmean(each['score'] for each in epoch):.1f}" for epoch in by_epoch)
        yield f"| {name} | {len(own)} | {losses} | {scores} | {fmean(map(reported, own)):.1f} |"


def parity_runs(folder: Path, task: str) -> dict[str, list[Any]]:
    """The runs of ``parity.py`` on a task, by method and learning rate."""
    runs: dict[str, list[Any]] = {}
    for file in sorted(folder.glob(f"{task}-*.json")):
        one = json.loads(file.read_text())
        runs.setdefault(f"{one['recipe']['method']['name']}, {one['recipe']['lr']:g}", []).append(one)
    return runs


def gain_cells(gains: Sequence[float]) -> list[str]:
    """A mean difference and its interval; a dash for none."""
    interval = student_interval(gains)
    mean = f"{fmean(gains):+.1f}" if gains else "–"
    return [mean, "–" if interval is None else f"{interval[0]:+.1f} to {interval[1]:+.1f}"]


def spread(values: Sequence[float]) -> str:
    """``74.6 ± 1.2``: mean and standard deviation; without the latter for one value."""
    return f"{fmean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def tables(folder: Path) -> dict[str, Callable[[], str]]:
    """All tables, by name. The runs of ``parity.py`` lie beside the folder."""
    runs, parity = runs_in(folder), folder.parent / "parity"
    made = {task: partial(of_task, runs, task) for task in runs}
    made |= {
        f"curves-{task}": partial(curves, {name: [*own.values()] for name, own in runs[task].items()}) for task in runs
    }
    for task in sorted({file.name.partition("-full-")[0] for file in parity.glob("*-full-*.json")}):
        made[f"parity-{task}"] = partial(curves, parity_runs(parity, task))
    made["all-tasks"] = partial(over_tasks, runs)
    return {name: partial(_joined, table) for name, table in made.items()}


def _joined(table: Callable[[], Iterator[str]]) -> str:
    return "\n".join(table())


def document(text: str, folder: Path) -> str:
    """The text with its tables of recipes replaced."""
    return with_tables(text, "recipes", tables(folder))


def print_all(folder: Path) -> None:
    """Print every table under its name."""
    for name, table in tables(folder).items():
        print(f"{name}\n\n{table()}\n")


if __name__ == "__main__":
    if "--print" in sys.argv:
        print_all(FOLDER)
    else:
        rewrite(__doc__, document, "docs/recipes.md", str(FOLDER))
