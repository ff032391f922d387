"""Expected calibration error and Brier score before and after calibration, on real tasks.

Adapters in the top two layers, so that the benchmark runs in minutes; the seeds of a task train in one pass. One JSON
file a task and seed with what the adapter's card says; what is there is not run again.

    python benchmarks/calibration.py results/calibration --data DIR [--seeds 3]
    python benchmarks/calibration.py results/calibration --table
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.data.task import Task
from polytask.demo.corpora import CORPORA, Sizes, read_corpus
from polytask.methods import Houlsby
from polytask.suites.text17 import read_text17
from polytask.training.fused import train_many
from polytask.training.recipe import Recipe
from resumable import begun_within, mean_and_spread, results_in, run_or_table, write_result

TASKS = ("mood", "review", "crowdflower_airline", "crowdflower_emotion")
"""``mood`` and ``review`` are of the packages of the demo."""
RECIPE = Recipe(Houlsby(64, layers=2), epochs=6, max_length=40)
ROWS = {"train": 600, "validation": 300, "test": 500}


def read(name: str, data: Path) -> Task:
    """A task with so many rows."""
    packaged = {corpus.task: corpus for corpus in CORPORA}
    if name in packaged:
        return read_corpus(packaged[name], Sizes(**ROWS))
    task = read_text17(name, data / "text17")
    return replace(task, **{split: getattr(task, split).take(range(most)) for split, most in ROWS.items()})


def run_seeds(backbone: Backbone, task: Task, seeds: dict[int, Path]) -> None:
    """Train these seeds, and write a file for each."""
    jobs = {f"seed {seed}": (task, replace(RECIPE, seed=seed)) for seed in seeds}
    for (seed, file), outcome in zip(seeds.items(), train_many(backbone, jobs).values(), strict=True):
        assert isinstance(outcome, tuple), outcome
        adapter, result = outcome
        said = {**(result.calibration or {}), "calibration": adapter.header.calibration}
        about: dict[str, Any] = {"task": task.name, "seed": seed, "recipe": RECIPE.to_json(), **said}
        about |= {"score": result.to_json()["test"], "environment": result.environment}
        write_result(file, about)
        print(file, {side: (said[side]["ece"], said[side]["brier"]) for side in ("before", "after")}, flush=True)


def run(given: argparse.Namespace) -> None:
    """Run what is not there yet."""
    backbone = load_backbone("minilm", device="cpu")
    for name in begun_within(given.minutes, given.tasks.split(",")):
        files = {seed: given.out / f"{name}-{seed}.json" for seed in range(given.seeds)}
        if missing := {seed: file for seed, file in files.items() if not file.exists()}:
            run_seeds(backbone, read(name, Path(given.data)), missing)


def table(folder: Path) -> Iterator[str]:
    """A Markdown table: the mean over seeds, with their spread and number."""
    by: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for own in results_in(folder):
        by[own["task"]].append(own)
    yield "| task | accuracy | ECE before | after | Brier score before | after |"
    yield "|---|---|---|---|---|---|"
    for task in (own for own in TASKS if own in by):
        runs = by[task]
        errors = [[own[side][e][0] for own in runs] for e in ("ece", "brier") for side in ("before", "after")]
        cells = [mean_and_spread(values) for values in ([own["score"]["score"] for own in runs], *errors)]
        yield f"| {task} | {' | '.join(cells)} |"


def main() -> None:
    """Run, or print the table."""
    run_or_table(__doc__, run, table, tasks=",".join(TASKS), seeds=3)


if __name__ == "__main__":
    main()
