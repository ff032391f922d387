"""Long documents: what truncating costs, and what windows win, on posts of 20 newsgroups and film reviews.

Texts of 1,500 to 5,000 characters, by a probe: the first 128 or 256 tokens, or windows of 256 that overlap by a
quarter. Windows are combined in three ways: each is a training row and the answer is their mean, as ``--long split``
does; the head gets the mean of their vectors; or a learned attention over them, ``softmax(q · v)`` with a vector ``q``
beside the head, regularised alike. Each seed divides the texts anew into a training and a test half. One JSON file a
task and seed; what is there is not run again.

    python benchmarks/long_documents.py results/long_documents --data DIR [--tasks 20_newsgroups,film_reviews]
    python benchmarks/long_documents.py results/long_documents --table
"""

from __future__ import annotations

import argparse
import csv
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from frozen_vectors import logits_of
from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.data.encoding import encode
from polytask.data.task import Rows
from polytask.demo.corpora import CORPORA, path_of
from polytask.evaluation.linear_probe import fit_probe
from polytask.inference.vectors import vectors_of
from polytask.suites.text17 import read_text17
from polytask.training.result import environment
from resumable import begun_within, mean_and_spread, results_in, run_or_table, write_result

CHARACTERS = range(1500, 5000)
LBFGS_STEPS = 60


@dataclass(frozen=True)
class Documents:
    """Vectors of texts: windows ``[W, D]``, their rows ``[W]``, beginnings of 128 tokens ``[N, D]``, labels ``[N]``."""

    windows: Tensor
    owners: Tensor
    beginnings: Tensor
    targets: Tensor

    def take(self, rows: Sequence[int]) -> Documents:
        """Only these rows, renumbered."""
        number = torch.full((len(self.targets),), -1)
        number[torch.tensor(rows)] = torch.arange(len(rows))
        order = torch.cat([torch.nonzero(self.owners == row).flatten() for row in rows])
        picked = torch.tensor(rows)
        return Documents(self.windows[order], number[self.owners[order]], self.beginnings[picked], self.targets[picked])

    @property
    def first(self) -> Tensor:
        """The first window of each row, which is the text cut at 256 tokens."""
        starts = [0, *(at + 1 for at, (a, b) in enumerate(pairwise(self.owners.tolist())) if a != b)]
        return self.windows[starts]

    def mean(self, of_windows: Tensor, weights: Tensor | None = None) -> Tensor:
        """The mean over each row's windows ``[N, …]`` of values ``[W, …]``, with weights ``[W]``."""
        weights = of_windows.new_ones(len(of_windows)) if weights is None else weights
        total = of_windows.new_zeros(len(self.targets), of_windows.shape[1]).index_add(
            0, self.owners, of_windows * weights[:, None]
        )
        return total / weights.new_zeros(len(self.targets)).index_add(0, self.owners, weights)[:, None]


def first_128(train: Documents, test: Documents, num_labels: int) -> Tensor:
    """The beginning of a text."""
    return probed(train.beginnings, train.targets, test.beginnings, num_labels)


def first_256(train: Documents, test: Documents, num_labels: int) -> Tensor:
    """The first window."""
    return probed(train.first, train.targets, test.first, num_labels)


def mean_of_answers(train: Documents, test: Documents, num_labels: int) -> Tensor:
    """Each window is a training row; the probabilities of a text are the mean over its windows."""
    owners = train.owners.tolist()
    of_windows = train.targets[train.owners]
    probe = fit_probe("classification", train.windows.numpy(), of_windows.tolist(), num_labels, owners)
    return test.mean(logits_of(probe, test.windows).softmax(dim=-1))


def mean_of_vectors(train: Documents, test: Documents, num_labels: int) -> Tensor:
    """The head gets the mean of the windows' vectors."""
    return probed(train.mean(train.windows), train.targets, test.mean(test.windows), num_labels)


def attention(train: Documents, test: Documents, num_labels: int) -> Tensor:
    """A learned attention over the windows, which starts as their mean with the head of its probe."""
    vectors = train.mean(train.windows)
    probe = fit_probe("classification", vectors.numpy(), train.targets.tolist(), num_labels)
    centre, scale = vectors.mean(dim=0), vectors.var(dim=0, unbiased=False).mean().sqrt()
    x = (train.windows - centre) / scale
    weight = (torch.from_numpy(probe.weight) * scale).requires_grad_()
    bias = (torch.from_numpy(probe.bias + probe.weight @ centre.numpy())).requires_grad_()
    query = torch.zeros_like(x[0]).requires_grad_()
    optimizer = torch.optim.LBFGS([weight, bias, query], max_iter=LBFGS_STEPS, line_search_fn="strong_wolfe")

    def logits(of: Documents, vectors: Tensor) -> Tensor:
        return of.mean(vectors, (vectors @ query).exp()) @ weight.T + bias

    def loss() -> Tensor:
        optimizer.zero_grad()
        size = (weight.square().sum() + query.square().sum()) / (2 * probe.strength)
        total = torch.nn.functional.cross_entropy(logits(train, x), train.targets, reduction="sum") + size
        total.backward()
        return total

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        return logits(test, (test.windows - centre) / scale)


WAYS: dict[str, Callable[[Documents, Documents, int], Tensor]] = {
    "first 128 tokens": first_128,
    "first 256 tokens": first_256,
    "windows of 256, mean of the answers": mean_of_answers,
    "windows of 256, mean of the vectors": mean_of_vectors,
    "windows of 256, learned attention": attention,
}


def probed(known: Tensor, targets: Tensor, asked: Tensor, num_labels: int) -> Tensor:
    """The logits of a probe fitted on known vectors, for those asked about."""
    return logits_of(fit_probe("classification", known.numpy(), targets.tolist(), num_labels), asked)


def film_reviews() -> tuple[list[str], list[int], int]:
    """The long reviews of IMDb, in a fixed random order."""
    corpus = next(corpus for corpus in CORPORA if corpus.task == "review")
    with path_of(corpus).open(encoding="utf-8", newline="") as lines:
        found = [(row["text"], int(row["label"])) for row in csv.DictReader(lines) if row["source"] == "imdb"]
    random.Random(0).shuffle(found)
    texts, targets = zip(*found, strict=True)
    return list(texts), list(targets), 2


def newsgroups(data: Path) -> tuple[list[str], list[int], int]:
    """The training posts of 20 newsgroups."""
    task = read_text17("20_newsgroups", data / "text17")
    return list(task.train.texts), [int(target) for target in task.train.targets or ()], len(task.labels)


def encoded(backbone: Backbone, texts: Sequence[str], targets: Sequence[int]) -> Documents:
    """The vectors of texts."""
    rows = Rows(texts)
    windows = encode(backbone.tokenizer, rows, 256, "split")
    vectors = [vectors_of(backbone, own).double() for own in (windows, encode(backbone.tokenizer, rows, 128))]
    return Documents(vectors[0], torch.tensor(windows.owners), vectors[1], torch.tensor(targets))


def run(given: argparse.Namespace) -> None:
    """Run what is not there yet; the texts of a task are encoded once for all seeds."""
    backbone = load_backbone("minilm", device="cpu")
    for name in begun_within(given.minutes, given.tasks.split(",")):
        if all((given.out / f"{name}-{seed}.json").exists() for seed in range(given.seeds)):
            continue
        texts, targets, num_labels = film_reviews() if name == "film_reviews" else newsgroups(Path(given.data))
        long = [row for row, text in enumerate(texts) if len(text) in CHARACTERS][: given.rows]
        documents = encoded(backbone, [texts[row] for row in long], [targets[row] for row in long])
        for seed in range(given.seeds):
            order = np.random.default_rng(seed).permutation(len(long)).tolist()
            train, test = documents.take(order[: len(order) // 2]), documents.take(order[len(order) // 2 :])
            about: dict[str, Any] = {"task": name, "seed": seed, "train_rows": len(train.targets)}
            about |= {"test_rows": len(test.targets), "windows_a_text": len(documents.windows) / len(long)}
            found = {way: of(train, test, num_labels).argmax(dim=-1) for way, of in WAYS.items()}
            about["accuracy"] = {way: float((own == test.targets).double().mean()) for way, own in found.items()}
            about["environment"] = environment(backbone.device, backbone.dtype)
            write_result(given.out / f"{name}-{seed}.json", about)
            print(name, seed, {way: round(own, 3) for way, own in about["accuracy"].items()}, flush=True)


def table(folder: Path) -> Iterator[str]:
    """A Markdown table: the mean over seeds, with their spread and number."""
    runs = results_in(folder)
    tasks = list(dict.fromkeys(own["task"] for own in runs))
    yield f"| read | {' | '.join(tasks)} |"
    yield "|---|" + "---|" * len(tasks)
    for way in WAYS:
        cells = [mean_and_spread([own["accuracy"][way] for own in runs if own["task"] == task]) for task in tasks]
        yield f"| {way} | {' | '.join(cells)} |"


def main() -> None:
    """Run, or print the table."""
    run_or_table(__doc__, run, table, tasks="20_newsgroups,film_reviews", rows=400, seeds=5)


if __name__ == "__main__":
    main()
