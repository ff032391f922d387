"""Rare classes: macro-F1 without weights, with balanced weights and with logit adjustment, on imbalanced tasks.

Each seed draws other training rows, at random, so that classes are as rare as they are. Adapters act in the top two
layers, so that the benchmark runs in minutes; the layers below are computed once for all. One JSON file a task, method,
weighting and seed; what is there is not run again.

    python benchmarks/rare_classes.py results/rare_classes --data DIR [--methods probe,houlsby] [--seeds 3]
    python benchmarks/rare_classes.py results/rare_classes --table
"""

from __future__ import annotations

import argparse
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

from sklearn.metrics import accuracy_score, recall_score

from frozen_vectors import FrozenVectors, logits_of
from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.data.task import Task
from polytask.evaluation.linear_probe import fit_probe
from polytask.evaluation.metrics import score
from polytask.methods import Houlsby
from polytask.suites.text17 import read_text17
from polytask.training.job import Job
from polytask.training.loop import run_jobs
from polytask.training.recipe import Recipe
from polytask.training.result import environment
from polytask.training.scoring import test_scores
from resumable import begun_within, mean_and_spread, results_in, run_or_table, write_result

TASKS = ("customer_complaints", "crowdflower_corporate_messaging", "crowdflower_primary_emotions")
HOULSBY = Recipe(Houlsby(64, layers=2), epochs=6)
WEIGHTS = {"none": None, "balanced": "balanced", "logit-adjusted": "logit-adjusted"}
MAX_LENGTH, TRAIN_ROWS, TEST_ROWS = 40, 500, 300
RARE = 20


def drawn(task: Task, seed: int) -> Task:
    """The task with training rows drawn by a seed; the last epoch counts, so that no rows are held out."""
    assert task.test is not None, "the tasks have test rows"
    rows = random.Random(f"{task.name} {seed}").sample(range(len(task.train)), min(TRAIN_ROWS, len(task.train)))
    test = task.test.take(range(min(TEST_ROWS, len(task.test))))
    train = task.train.take(rows)
    return replace(task, metric="macro_f1", train=train, validation=train.take(range(2)), test=test)


def answers_of_probe(frozen: FrozenVectors, task: Task, weights: str | None) -> list[int]:
    """The answers of a probe on the test rows."""
    assert task.test is not None, "the tasks have test rows"
    vectors, targets = frozen.of(task.train).numpy(), task.train.targets or ()
    probe = fit_probe("classification", vectors, targets, len(task.labels), class_weights=weights)
    return [int(answer) for answer in logits_of(probe, frozen.of(task.test)).argmax(dim=-1)]


def answers_of_adapter(backbone: Backbone, task: Task, weights: str | None, seed: int) -> list[int]:
    """The answers of an adapter on the test rows."""
    job = Job(backbone, task, replace(HOULSBY, seed=seed, max_length=MAX_LENGTH, class_weights=weights))
    for _ in run_jobs(backbone, [job]):
        pass
    return [int(scores.argmax()) for scores in test_scores(backbone, job) or ()]


def measured(task: Task, found: list[int]) -> dict[str, Any]:
    """Scores on the test rows: of all classes, and the recall of the classes with few training rows."""
    assert task.test is not None, "the tasks have test rows"
    truth = list(task.test.targets or ())
    counts = Counter(task.train.targets)
    rare = [label for label in set(truth) if counts[label] < RARE]
    recall = recall_score(truth, found, labels=rare, average="macro", zero_division=0) if rare else 0.0
    scores = {"accuracy": accuracy_score(truth, found), "recall_of_rare": recall}
    scores["macro_f1"] = score("macro_f1", "classification", truth, found, num_labels=len(task.labels))
    return {**{name: float(value) for name, value in scores.items()}, "rare": len(rare), "test_rows": len(truth)}


def run(given: argparse.Namespace) -> None:
    """Run what is not there yet."""
    backbone = load_backbone("minilm", device="cpu")
    frozen = FrozenVectors(backbone, MAX_LENGTH)
    tasks = {name: read_text17(name, Path(given.data) / "text17") for name in given.tasks.split(",")}
    cells = [
        (method, seed, name, weights)
        for method in given.methods.split(",")
        for seed in range(given.seeds)
        for name in tasks
        for weights in WEIGHTS
    ]
    for method, seed, name, weights in begun_within(given.minutes, cells):
        file = given.out / f"{name}-{method}-{weights}-{seed}.json"
        if file.exists():
            continue
        task = drawn(tasks[name], seed)
        if method == "probe":
            found = answers_of_probe(frozen, task, WEIGHTS[weights])
        else:
            found = answers_of_adapter(backbone, task, WEIGHTS[weights], seed)
        about: dict[str, Any] = {"task": name, "method": method, "weights": weights, "seed": seed}
        about |= {"train_rows": len(task.train), "classes": len(task.labels), **measured(task, found)}
        about["environment"] = environment(backbone.device, backbone.dtype)
        write_result(file, about)
        print(file.stem, {k: round(about[k], 3) for k in ("macro_f1", "accuracy")}, flush=True)


def table(folder: Path) -> Iterator[str]:
    """A Markdown table: the mean over seeds, with their spread and number."""
    by: dict[tuple[str, str], dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for own in results_in(folder):
        by[own["method"], own["task"]][own["weights"]].append(own)
    yield "| method | task (classes) | weights | macro-F1 | recall of rare classes | accuracy |"
    yield "|---|---|---|---|---|---|"
    for (method, task), found in sorted(by.items()):
        for weights in (own for own in WEIGHTS if own in found):
            runs = found[weights]
            recall, accuracy = (f"{mean(own[name] for own in runs):.3f}" for name in ("recall_of_rare", "accuracy"))
            recall = recall if any(own["rare"] for own in runs) else ""
            macro = mean_and_spread([own["macro_f1"] for own in runs])
            yield f"| {method} | {task} ({runs[0]['classes']}) | {weights} | {macro} | {recall} | {accuracy} |"


def main() -> None:
    """Run, or print the table."""
    run_or_table(__doc__, run, table, tasks=",".join(TASKS), methods="probe,houlsby", seeds=3)


if __name__ == "__main__":
    main()
