"""Tables of the runs of ``recipe_trials.py``, from their files alone; rewrites those in docs/recipes.md.

    python benchmarks/recipe_tables.py                  # docs/recipes.md from results/recipes/
    python benchmarks/recipe_tables.py --print          # all tables, on standard output

A variant ``NAME@SETTING`` is one of several settings of NAME, such as its learning rates. A table of a task has a row
for each variant; its difference is from the variant of the first file in order of ``REFERENCES``, on the same seeds,
with Student's paired 95% interval. The table ``chosen`` compares names: validation chooses a setting of each, and the
difference is from full fine-tuning. The tables ``parity-TASK`` show how the runs of ``parity.py`` learnt.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pandas as pd

from documents import rewrite, with_tables
from polytask.evaluation.significance import student_interval

FOLDER = Path("results/recipes")
PARITY = Path("results/parity")
REFERENCES = ("adapters@1e-3", "full@1e-4")
FULL = "full"


def runs_in(folder: Path) -> pd.DataFrame:
    """A row for each run, its scores × 100."""
    return pd.DataFrame([_row(json.loads(file.read_text())) for file in sorted(folder.glob("*.json"))])


def _row(saved: Mapping[str, Any]) -> dict[str, Any]:
    scores = {split: 100 * saved[split]["score"] if saved[split] else None for split in ("validation", "test")}
    return {
        "task": saved["task"],
        "variant": saved["variant"],
        "name": saved["variant"].partition("@")[0],
        "seed": saved["recipe"]["seed"],
        "rows": saved["train"]["rows"],
        "epochs": saved["recipe"]["epochs"],
        "validation": scores["validation"],
        "score": scores["validation"] if scores["test"] is None else scores["test"],
        "loss": saved["history"][-1]["loss"],
        "best_epoch": saved["best_epoch"],
    }


def of_task(runs: pd.DataFrame, task: str) -> Iterator[str]:
    """The table of a task: a row for each variant, the references first."""
    own = runs[runs.task == task]
    order = sorted(own.variant.unique(), key=lambda name: (name not in REFERENCES, name))
    reference = next((name for name in REFERENCES if name in order), order[0])
    yield f"| variant | seeds | validation | test | minus {reference} | 95% interval | loss | best epoch |"
    yield "|---|---:|---:|---:|---:|---|---:|---:|"
    base = own[own.variant == reference].set_index("seed").score
    for variant in order:
        rows = own[own.variant == variant].set_index("seed")
        gains = (rows.score - base).dropna().tolist() if variant != reference else []
        cells = [variant, len(rows), f"{rows.validation.mean():.1f}", spread(rows.score.tolist()), *gain_cells(gains)]
        cells += [f"{rows.loss.mean():.2f}", f"{rows.best_epoch.mean():.1f} of {rows.epochs.max()}"]
        yield f"| {' | '.join(map(str, cells))} |"


def chosen(runs: pd.DataFrame) -> Iterator[str]:
    """Names over tasks: the setting that validation chose of each, and the difference from full fine-tuning."""
    by = [(task, name) for task, name in runs.groupby(["task", "name"], sort=False).groups]
    best = {(task, name): choice(runs[(runs.task == task) & (runs.name == name)]) for task, name in by}
    yield "| task | recipe | settings | chosen | seeds | test | minus full fine-tuning | 95% interval |"
    yield "|---|---|---:|---|---:|---:|---:|---|"
    pooled: dict[str, list[float]] = {}
    for task, name in by:
        own, full = best[task, name], best.get((task, FULL))
        gains = [] if full is None or name == FULL else (own.score - full.score).dropna().tolist()
        pooled.setdefault(name, []).extend(gains)
        settings = runs[(runs.task == task) & (runs.name == name)].variant.nunique()
        picked = own.variant.iloc[0].partition("@")[2] or "–"
        cells = [task, name, settings, picked, len(own), spread(own.score.tolist()), *gain_cells(gains)]
        yield f"| {' | '.join(map(str, cells))} |"
    for name, gains in pooled.items():
        if len(gains) > 1:
            yield f"| **all pairs of runs** | {name} | | | {len(gains)} | | {' | '.join(gain_cells(gains))} |"


def choice(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs by seed of the variant with the best mean validation score on the seeds that all variants have run."""
    seeds = set.intersection(*(set(own.seed) for _, own in runs.groupby("variant")))
    means = runs[runs.seed.isin(seeds)].groupby("variant", sort=False).validation.mean()
    return runs[runs.variant == means.idxmax()].set_index("seed")


def gain_cells(gains: Sequence[float]) -> list[str]:
    """A mean difference and its interval; a dash for none."""
    interval = student_interval(gains)
    mean = f"{fmean(gains):+.1f}" if gains else "–"
    return [mean, "–" if interval is None else f"{interval[0]:+.1f} to {interval[1]:+.1f}"]


def learning_curves(task: str) -> Iterator[str]:
    """Training loss and validation score of each epoch of the runs of ``parity.py``, means over seeds."""
    runs = [json.loads(file.read_text()) for file in sorted(PARITY.glob(f"{task}-*.json"))]
    yield "| method | learning rate | seeds | training loss by epoch | validation by epoch | reported |"
    yield "|---|---:|---:|---|---|---:|"
    for method, lr in dict.fromkeys((run["recipe"]["method"]["name"], run["recipe"]["lr"]) for run in runs):
        own = [run for run in runs if (run["recipe"]["method"]["name"], run["recipe"]["lr"]) == (method, lr)]
        by_epoch = list(zip(*(run["history"] for run in own), strict=True))
        losses = ", ".join(f"{fmean(each['loss'] for each in epoch):.3f}" for epoch in by_epoch)
        scores = ", ".join(f"{100 * fmean(each['score'] for each in epoch):.1f}" for epoch in by_epoch)
        reported = fmean(100 * run["test"]["score"] for run in own)
        yield f"| {method} | {lr:g} | {len(own)} | {losses} | {scores} | {reported:.1f} |"


def spread(values: Sequence[float]) -> str:
    """``74.6 ± 1.2``: mean and standard deviation; without the latter for one value."""
    return f"{fmean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def tables(folder: Path) -> dict[str, Callable[[], str]]:
    """All tables, by name."""
    runs = runs_in(folder)
    tasks = [] if runs.empty else runs.task.unique()
    curves = {file.name.partition("-full")[0] for file in PARITY.glob("*-full-*.json")}
    return {
        **{f"parity-{task}": partial(_joined, learning_curves, task) for task in sorted(curves)},
        **{task: partial(_joined, of_task, runs, task) for task in tasks},
        "chosen": partial(_joined, chosen, runs),
    }


def _joined(table: Callable[..., Iterator[str]], *given: object) -> str:
    return "\n".join(table(*given))


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
