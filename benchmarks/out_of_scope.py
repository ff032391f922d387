"""None of these: how well detectors find texts of classes that an adapter was not trained on.

Of each task some classes are left out of the training; their test rows are the texts to be found (``near``), and so are
texts of other tasks (``far``). AUROC, and the share of such texts that get a label where 95% of the right ones do
(FPR at 95%). One JSON file a task, method and seed; what is there is not run again.

    python benchmarks/out_of_scope.py results/out_of_scope --data DIR [--methods houlsby,probe] [--seeds 2]
    python benchmarks/out_of_scope.py results/out_of_scope --table
"""

from __future__ import annotations

import argparse
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.data.task import Rows, Task
from polytask.evaluation.detectors import DETECTORS
from polytask.evaluation.none_of_these import DetectNone, auroc, false_positives
from polytask.inference.vectors import vectors_of
from polytask.methods import Houlsby, Probe
from polytask.suites.text17 import read_text17
from polytask.training.job import Job, attached_to
from polytask.training.loop import train_jobs
from polytask.training.recipe import Recipe
from polytask.training.result import environment
from resumable import results_in, run_or_table, write_result

LEFT_OUT = {
    "20_newsgroups": 5,
    "customer_complaints": 4,
    "news_aggregator": 1,
    "crowdflower_political_message": 3,
}
"""How many classes are left out of each task."""
RECIPES = {"houlsby": Recipe(Houlsby(64, layers=2), epochs=4), "probe": Recipe(Probe())}
"""Adapters in the top two layers only, so that the benchmark runs in minutes."""
MAX_LENGTH, TRAIN_ROWS, TEST_ROWS, FAR_ROWS = 40, 300, 150, 80
NONE = "(none)"


def parted(task: Task, seed: int) -> tuple[Task, DetectNone, list[str]]:
    """The task without some classes, their rows, and their names; each seed leaves out others."""
    assert task.test is not None, "the tasks have test rows"
    assert task.train.targets is not None, "training rows have targets"
    common = [label for label in range(len(task.labels)) if list(task.train.targets).count(label) >= 60]
    left_out = set(random.Random(f"{task.name} {seed}").sample(common, LEFT_OUT[task.name]))
    labels = (*task.labels, NONE)

    def merged(rows: Rows) -> Rows:
        return replace(rows, targets=[len(labels) - 1 if t in left_out else t for t in rows.targets or ()])

    whole = replace(task, labels=labels, **{n: merged(getattr(task, n)) for n in ("train", "validation", "test")})
    rest, none = DetectNone(label=NONE).taken_out_of(whole)
    train = rest.train.take(range(min(TRAIN_ROWS, len(rest.train))))
    validation = rest.validation.take(range(min(60, len(rest.validation))))
    rest = replace(rest, train=train, validation=validation)
    return rest, none, [task.labels[label] for label in sorted(left_out)]


def compared(backbone: Backbone, task: Task, none: DetectNone, far: Rows, recipe: Recipe) -> dict[str, Any]:
    """AUROC and FPR of each detector, near and far."""
    assert task.test is not None, "the tasks have test rows"
    job = Job(backbone, task, recipe)
    train_jobs(backbone, [job])
    rows = {"familiar": task.test.take(range(min(TEST_ROWS, len(task.test))))}
    rows |= {"near": none.examples["test"].take(range(min(TEST_ROWS, len(none.examples["test"])))), "far": far}
    with attached_to(backbone, [job]) as attached:
        own = (attached, job.name, job.live)
        known = vectors_of(backbone, job.train, own).double()
        vectors = {name: vectors_of(backbone, job.encodings.of(of, *job.cut), own) for name, of in rows.items()}
    found: dict[str, Any] = {"score": job.best_score, "rows": {name: len(of) for name, of in rows.items()}}
    targets = torch.tensor(list(task.train.targets or ()))
    for name, detector in DETECTORS.items():
        if name == "linear":
            continue
        tensors = {k: v.float() for k, v in detector.fit(known, targets, len(task.labels), None).items()}
        with torch.no_grad():
            of = {
                what: detector.familiarity(own, job.live.head(own), tensors).tolist() for what, own in vectors.items()
            }
        found[name] = {
            what: {"auroc": auroc(of["familiar"], of[what]), "fpr95": false_positives(of["familiar"], of[what])}
            for what in ("near", "far")
        }
    return found


def run(given: argparse.Namespace) -> None:
    """Run what is not there yet."""
    backbone = load_backbone("minilm", device="cpu")
    names = given.tasks.split(",")
    tasks = {name: read_text17(name, Path(given.data) / "text17") for name in names}
    other = read_text17("sms_spam", Path(given.data) / "text17").test
    assert other is not None, "the tasks have test rows"
    far = replace(other.take(range(FAR_ROWS)), targets=None)
    for seed in range(given.seeds):
        for method in given.methods.split(","):
            for name, whole in tasks.items():
                file = given.out / f"{name}-{method}-{seed}.json"
                if file.exists():
                    continue
                task, none, left_out = parted(whole, seed)
                recipe = replace(RECIPES[method], seed=seed, max_length=MAX_LENGTH)
                about: dict[str, Any] = {"task": name, "method": method, "seed": seed, "left_out": left_out}
                about |= {"recipe": recipe.to_json(), **compared(backbone, task, none, far, recipe)}
                about["environment"] = environment(backbone.device, backbone.dtype)
                write_result(file, about)
                print(file.stem, {d: round(about[d]["near"]["auroc"], 3) for d in DETECTORS if d in about}, flush=True)


def table(folder: Path) -> Iterator[str]:
    """A Markdown table: the mean over seeds of each task and detector."""
    by: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for own in results_in(folder):
        by[own["method"], own["task"]].append(own)
    detectors = [name for name in DETECTORS if name != "linear"]
    yield f"| method | task, classes left out (seeds) | | {' | '.join(detectors)} |"
    yield "|---|---|---|" + "---|" * len(detectors)
    for (method, task), runs in sorted(by.items()):
        for what in ("near", "far"):
            cells = []
            for detector in detectors:
                values = [[own[detector][what][name] for own in runs] for name in ("auroc", "fpr95")]
                cells.append(f"{mean(values[0]):.3f} / {mean(values[1]):.2f}")
            yield f"| {method} | {task}, {len(runs[0]['left_out'])} ({len(runs)}) | {what} | {' | '.join(cells)} |"


def main() -> None:
    """Run, or print the table."""
    run_or_table(__doc__, run, table, tasks=",".join(LEFT_OUT), methods="probe,houlsby", seeds=2)


if __name__ == "__main__":
    main()
