"""None of these: how well detectors find texts of classes that an adapter was not trained on.

Of each task some classes are left out of the training, with each seed others; their test rows are the texts to be found
(``near``), and so are text messages, which have nothing to do with any task (``far``). AUROC, and the share of such
texts that get a label where 95% of the right ones do (FPR at 95%). One JSON file a task, method and seed; what is there
is not run again.

    python benchmarks/out_of_scope.py results/out_of_scope --data DIR [--methods houlsby,probe] [--seeds 4]
    python benchmarks/out_of_scope.py results/out_of_scope --table
"""

from __future__ import annotations

import argparse
import math
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from scipy.stats import rankdata
from torch import Tensor

from frozen_vectors import FrozenVectors, logits_of
from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.data.encoding import encode
from polytask.data.task import Rows, Task
from polytask.demo.corpora import CORPORA, read_corpus
from polytask.evaluation.detectors import DETECTORS
from polytask.evaluation.linear_probe import fit_probe
from polytask.evaluation.none_of_these import DetectNone, auroc, false_positives
from polytask.inference.vectors import vectors_of
from polytask.methods import Houlsby
from polytask.suites.text17 import read_text17
from polytask.training.job import Job, attached_to
from polytask.training.loop import train_jobs
from polytask.training.recipe import Recipe
from polytask.training.result import environment
from resumable import begun_within, results_in, run_or_table, write_result

LEFT_OUT = {
    "20_newsgroups": 5,
    "news_aggregator": 1,
    "topic": 2,
    "customer_complaints": 4,
    "crowdflower_emotion": 4,
    "crowdflower_political_message": 3,
}
"""How many classes are left out of each task. ``topic`` are the BBC's news, from a package of the demo."""
HOULSBY = Recipe(Houlsby(64, layers=2), epochs=4)
"""In the top two layers only, so that the benchmark runs in minutes."""
MAX_LENGTH, TRAIN_ROWS, TEST_ROWS, FAR_ROWS = 40, 500, 150, 100
NONE = "(none)"
COMPARED = [name for name in DETECTORS if name != "linear"]


@dataclass(frozen=True)
class Trained:
    """A trained classifier, by what detectors see of it.

    Attributes:
        known: the vectors of its training texts, ``[N, D]``.
        vectors: those of the texts to be told apart.
        logits: the logits of the same texts.
    """

    known: Tensor
    vectors: Mapping[str, Tensor]
    logits: Mapping[str, Tensor]


def read(name: str, data: Path) -> Task:
    """A task, with so few rows that they are soon encoded."""
    topics = {corpus.task: corpus for corpus in CORPORA}
    task = read_corpus(topics[name]) if name in topics else read_text17(name, data / "text17")
    assert task.test is not None, "the tasks have test rows"
    most = {"train": 2 * TRAIN_ROWS, "test": 4 * TEST_ROWS}
    return replace(task, **{n: (own := getattr(task, n)).take(range(min(k, len(own)))) for n, k in most.items()})


def parted(task: Task, seed: int) -> tuple[Task, Rows, list[str]]:
    """The task without some classes, the test rows of these, and their names; each seed leaves out others."""
    common = common_labels(task)
    random.Random(task.name).shuffle(common)
    count = LEFT_OUT[task.name]
    left_out = {common[place % len(common)] for place in range(seed * count, (seed + 1) * count)}
    labels = (*task.labels, NONE)

    def merged(rows: Rows) -> Rows:
        return replace(rows, targets=[len(labels) - 1 if t in left_out else t for t in rows.targets or ()])

    whole = replace(task, labels=labels, **{n: merged(getattr(task, n)) for n in ("train", "validation", "test")})
    rest, none = DetectNone(label=NONE).taken_out_of(whole)
    train = rest.train.take(range(min(TRAIN_ROWS, len(rest.train))))
    validation = rest.validation.take(range(min(60, len(rest.validation))))
    return replace(rest, train=train, validation=validation), none.examples["test"], names_of(task, left_out)


def common_labels(task: Task) -> list[int]:
    """The classes with at least 20 training rows, of which some are left out."""
    targets = list(task.train.targets or ())
    return [label for label in range(len(task.labels)) if targets.count(label) >= 20]


def num_choices(task: Task) -> int:
    """The number of seeds until a seed would leave out the same classes as another."""
    common = len(common_labels(task))
    return common // math.gcd(common, LEFT_OUT[task.name])


def names_of(task: Task, labels: set[int]) -> list[str]:
    """Their names, sorted."""
    return [task.labels[label] for label in sorted(labels)]


def with_probe(frozen: FrozenVectors, task: Task, rows: Mapping[str, Rows]) -> Trained:
    """A probe, on vectors that are computed once for all seeds."""
    known = frozen.of(task.train)
    probe = fit_probe("classification", known.numpy(), task.train.targets or (), len(task.labels))
    vectors = {name: frozen.of(of) for name, of in rows.items()}
    return Trained(known, vectors, {name: logits_of(probe, own) for name, own in vectors.items()})


def with_adapter(backbone: Backbone, task: Task, rows: Mapping[str, Rows], seed: int) -> Trained:
    """An adapter."""
    job = Job(backbone, task, replace(HOULSBY, seed=seed, max_length=MAX_LENGTH))
    train_jobs(backbone, [job])
    with attached_to(backbone, [job]) as attached, torch.no_grad():
        own = (attached, job.name, job.live)
        known = vectors_of(backbone, job.train, own).double()
        encoded = {name: encode(backbone.tokenizer, of, *job.cut) for name, of in rows.items()}
        vectors = {name: vectors_of(backbone, of, own) for name, of in encoded.items()}
        logits = {name: job.live.head(of) for name, of in vectors.items()}
    return Trained(known, vectors, logits)


def compared(trained: Trained, targets: Tensor, num_labels: int) -> dict[str, Any]:
    """AUROC and FPR at 95% of each detector, near and far."""
    found: dict[str, Any] = {}
    for name in COMPARED:
        detector = DETECTORS[name]
        tensors = {k: v.float() for k, v in detector.fit(trained.known, targets, num_labels, None).items()}
        of = {
            what: detector.familiarity(own.float(), trained.logits[what].float(), tensors).tolist()
            for what, own in trained.vectors.items()
        }
        found[name] = {
            what: {"auroc": auroc(of["familiar"], of[what]), "fpr95": false_positives(of["familiar"], of[what])}
            for what in ("near", "far")
        }
    return found


def run(given: argparse.Namespace) -> None:
    """Run what is not there yet."""
    backbone = load_backbone("minilm", device="cpu")
    frozen, data = FrozenVectors(backbone, MAX_LENGTH), Path(given.data)
    far = read("sms_spam", data).test
    assert far is not None, "the tasks have test rows"
    cells = [(m, t, s) for m in given.methods.split(",") for t in given.tasks.split(",") for s in range(given.seeds)]
    for method, name, seed in begun_within(given.minutes, cells):
        file = given.out / f"{name}-{method}-{seed}.json"
        if file.exists():
            continue
        whole = read(name, data)
        if seed >= num_choices(whole):
            continue
        task, near, left_out = parted(whole, seed)
        assert task.test is not None, "the tasks have test rows"
        rows = {"familiar": task.test, "near": near, "far": far.take(range(FAR_ROWS))}
        rows = {what: replace(own.take(range(min(TEST_ROWS, len(own)))), targets=None) for what, own in rows.items()}
        is_probe = method == "probe"
        trained = with_probe(frozen, task, rows) if is_probe else with_adapter(backbone, task, rows, seed)
        about: dict[str, Any] = {"task": name, "method": method, "seed": seed, "left_out": left_out}
        about |= {"train_rows": len(task.train), "rows": {what: len(of) for what, of in rows.items()}}
        about |= compared(trained, torch.tensor(list(task.train.targets or ())), len(task.labels))
        about["environment"] = environment(backbone.device, backbone.dtype)
        write_result(file, about)
        print(file.stem, {d: round(about[d]["near"]["auroc"], 3) for d in COMPARED}, flush=True)


def table(folder: Path) -> Iterator[str]:
    """A Markdown table: the mean over seeds of each task and detector; below it the mean rank of each by AUROC."""
    by: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for own in results_in(folder):
        by[own["method"], own["task"]].append(own)
    yield f"| method | task, classes left out (seeds) | | {' | '.join(COMPARED)} |"
    yield "|---|---|---|" + "---|" * len(COMPARED)
    for what in ("near", "far"):
        for (method, task), runs in sorted(by.items()):
            cells = [shown([own[detector][what] for own in runs]) for detector in COMPARED]
            yield f"| {method} | {task}, {len(runs[0]['left_out'])} ({len(runs)}) | {what} | {' | '.join(cells)} |"
    for method in sorted({method for method, _ in by}):
        runs = [own for (of, _), found in sorted(by.items()) for own in found if of == method]
        for what in ("near", "far"):
            cells = [shown([own[detector][what] for own in runs]) for detector in COMPARED]
            yield f"| {method} | mean of {len(runs)} runs | {what} | {' | '.join(cells)} |"
            ranks = mean_ranks(runs, what)
            yield f"| {method} | mean rank by AUROC | {what} | {' | '.join(f'{rank:.2f}' for rank in ranks)} |"


def shown(values: list[dict[str, float]]) -> str:
    """``0.812 / 0.63``: the means of AUROC and FPR."""
    return f"{mean(own['auroc'] for own in values):.3f} / {mean(own['fpr95'] for own in values):.2f}"


def mean_ranks(runs: list[dict[str, Any]], what: str) -> list[float]:
    """The mean over runs of each detector's rank; 1 is the best."""
    ranks = [rankdata([-own[detector][what]["auroc"] for detector in COMPARED]) for own in runs]
    return [float(mean(of)) for of in zip(*ranks, strict=True)]


def main() -> None:
    """Run, or print the table."""
    run_or_table(__doc__, run, table, tasks=",".join(LEFT_OUT), methods="probe,houlsby", seeds=4)


if __name__ == "__main__":
    main()
