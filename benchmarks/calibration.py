"""Expected calibration error and Brier score before and after calibration, on real tasks.

Probes, and adapters in the top two layers, so that the benchmark runs in minutes. Each seed draws its own rows; the
seeds of a task train in one pass. One JSON file a task, method and seed with what the adapter's card says; what is
there is not run again.

    python benchmarks/calibration.py results/calibration --data DIR [--seeds 3] [--methods probe,houlsby]
    python benchmarks/calibration.py results/calibration --table
"""

from __future__ import annotations

import argparse
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.data.task import Task
from polytask.demo.corpora import CORPORA, Sizes, read_corpus
from polytask.methods import Houlsby, Probe
from polytask.suites.text17 import read_text17
from polytask.training.fused import train_many
from polytask.training.recipe import Recipe
from resumable import begun_within, mean_and_spread, results_in, run_or_table, write_result

TASKS = ("mood", "review", "crowdflower_airline", "crowdflower_emotion")
"""``mood`` and ``review`` are of the packages of the demo."""
RECIPES = {"probe": Recipe(Probe(), max_length=40), "houlsby": Recipe(Houlsby(64, layers=2), epochs=6, max_length=40)}
ROWS = {"train": 600, "validation": 300, "test": 500}


def read(name: str, data: Path, seed: int) -> Task:
    """A task with so many rows, drawn with a seed."""
    packaged = {corpus.task: corpus for corpus in CORPORA}
    if name in packaged:
        return read_corpus(packaged[name], Sizes(**ROWS), seed=seed)
    task = read_text17(name, data / "text17")
    assert task.test is not None, "the tasks have test rows"
    order = random.Random(seed).sample(range(len(task.train)), ROWS["train"] + ROWS["validation"])
    train, validation = (task.train.take(own) for own in (order[: ROWS["train"]], order[ROWS["train"] :]))
    return replace(task, train=train, validation=validation, test=task.test.take(range(ROWS["test"])))


def run_seeds(backbone: Backbone, tasks: dict[int, Task], method: str, seeds: dict[int, Path]) -> None:
    """Train these seeds, each on its own rows, and write a file for each."""
    recipe = RECIPES[method]
    jobs = {f"seed {seed}": (tasks[seed], replace(recipe, seed=seed)) for seed in seeds}
    for (seed, file), outcome in zip(seeds.items(), train_many(backbone, jobs).values(), strict=True):
        assert isinstance(outcome, tuple), outcome
        adapter, result = outcome
        said = {**(result.calibration or {}), "calibration": adapter.header.calibration}
        about: dict[str, Any] = {
            "task": tasks[seed].name,
            "method": method,
            "seed": seed,
            "recipe": recipe.to_json(),
            **said,
        }
        about |= {"score": result.to_json()["test"], "environment": result.environment}
        write_result(file, about)
        print(file, {side: (said[side]["ece"], said[side]["brier"]) for side in ("before", "after")}, flush=True)


def run(given: argparse.Namespace) -> None:
    """Run what is not there yet."""
    backbone = load_backbone("minilm", device="cpu")
    runs = [(name, method) for name in given.tasks.split(",") for method in given.methods.split(",")]
    for name, method in begun_within(given.minutes, runs):
        files = {seed: given.out / f"{name}-{method}-{seed}.json" for seed in range(given.seeds)}
        if missing := {seed: file for seed, file in files.items() if not file.exists()}:
            run_seeds(backbone, {seed: read(name, Path(given.data), seed) for seed in missing}, method, missing)


def table(folder: Path) -> Iterator[str]:
    """A Markdown table: the mean over seeds, with their spread and number."""
    by: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for own in results_in(folder):
        by[own["task"], own["method"]].append(own)
    yield "| task | method | accuracy | ECE before | after | Brier score before | after |"
    yield "|---|---|---|---|---|---|---|"
    for task, method in ((task, method) for task in TASKS for method in RECIPES if (task, method) in by):
        runs = by[task, method]
        errors = [[own[side][e][0] for own in runs] for e in ("ece", "brier") for side in ("before", "after")]
        cells = [mean_and_spread(values) for values in ([own["score"]["score"] for own in runs], *errors)]
        yield f"| {task} | {method} | {' | '.join(cells)} |"


def main() -> None:
    """Run, or print the table."""
    run_or_table(__doc__, run, table, tasks=",".join(TASKS), methods=",".join(RECIPES), seeds=3)


if __name__ == "__main__":
    main()
