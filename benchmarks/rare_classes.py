"""Rare classes: macro-F1 without weights, with balanced weights and with logit adjustment, on an imbalanced task.

Customer complaints has 11 classes of 780 to 7 training rows. Adapters act in the top two layers, on texts cut at 40
tokens, so that the benchmark runs in minutes; the layers below are computed once for all runs. One JSON file a method,
weighting and seed; what is there is not run again.

    python benchmarks/rare_classes.py results/rare_classes --data DIR [--methods probe,houlsby] [--seeds 2]
    python benchmarks/rare_classes.py results/rare_classes --table
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

from sklearn.metrics import accuracy_score, recall_score

from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.data.task import Task
from polytask.evaluation.metrics import score
from polytask.methods import Houlsby, Probe
from polytask.suites.text17 import read_text17
from polytask.training.job import Job
from polytask.training.loop import train_jobs
from polytask.training.recipe import Recipe
from polytask.training.result import environment
from polytask.training.scoring import test_scores
from resumable import results_in, run_or_table, write_result

TASK = "customer_complaints"
RECIPES = {"probe": Recipe(Probe()), "houlsby": Recipe(Houlsby(64, layers=2), epochs=5)}
WEIGHTS = (None, "balanced", "logit-adjusted")
MAX_LENGTH, TRAIN_ROWS, VALIDATION_ROWS = 40, 600, 60
RARE = 20


def measured(backbone: Backbone, task: Task, recipe: Recipe) -> dict[str, Any]:
    """Scores on the test rows: of all classes, and the recall of the classes with few training rows."""
    job = Job(backbone, task, recipe)
    train_jobs(backbone, [job])
    assert task.test is not None, "the task has test rows"
    found = [job.live.head.prediction(row) for row in test_scores(backbone, job) or ()]
    truth = list(task.test.targets or ())
    counts = Counter(task.train.targets)
    rare = [label for label in set(truth) if counts[label] < RARE]
    recall = recall_score(truth, found, labels=rare, average="macro", zero_division=0)
    scores = {"accuracy": accuracy_score(truth, found), "recall_of_rare": recall}
    scores["macro_f1"] = score("macro_f1", "classification", truth, found, num_labels=len(task.labels))
    return {**{name: float(value) for name, value in scores.items()}, "rare": len(rare), "test_rows": len(truth)}


def run(given: argparse.Namespace) -> None:
    """Run what is not there yet."""
    backbone = load_backbone("minilm", device="cpu")
    whole = read_text17(TASK, Path(given.data) / "text17", limit=TRAIN_ROWS)
    validation = whole.validation.take(range(VALIDATION_ROWS))
    task = replace(whole, metric="macro_f1", validation=validation)
    for seed in range(given.seeds):
        for method in given.methods.split(","):
            for weights in WEIGHTS:
                file = given.out / f"{method}-{weights or 'none'}-{seed}.json"
                if file.exists() or (method == "probe" and seed):
                    continue
                recipe = replace(RECIPES[method], seed=seed, max_length=MAX_LENGTH, class_weights=weights)
                about: dict[str, Any] = {"task": TASK, "method": method, "weights": weights, "seed": seed}
                about |= {"recipe": recipe.to_json(), **measured(backbone, task, recipe)}
                about["environment"] = environment(backbone.device, backbone.dtype)
                write_result(file, about)
                print(file.stem, {k: round(about[k], 3) for k in ("macro_f1", "accuracy")}, flush=True)


def table(folder: Path) -> Iterator[str]:
    """A Markdown table: the mean over seeds, and the macro-F1 of each."""
    by: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for own in results_in(folder):
        by[own["method"], own["weights"] or "none"].append(own)
    yield "| method | weights | macro-F1 | of each seed | recall of rare classes | accuracy |"
    yield "|---|---|---|---|---|---|"
    for (method, weights), runs in sorted(by.items()):
        each = ", ".join(f"{own['macro_f1']:.3f}" for own in runs)
        means = [mean(own[name] for own in runs) for name in ("macro_f1", "recall_of_rare", "accuracy")]
        yield f"| {method} | {weights} | {means[0]:.3f} | {each} | {means[1]:.3f} | {means[2]:.3f} |"


def main() -> None:
    """Run, or print the table."""
    run_or_table(__doc__, run, table, methods="probe,houlsby", seeds=2)


if __name__ == "__main__":
    main()
