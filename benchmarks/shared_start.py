"""Starting from a stored adapter: tasks with few rows, from random weights and from adapters of larger tasks.

Sources are trained once: IMDB reviews and tweets, alone and together (multi-task), on 2,000 rows each. Targets are
200 or 1,000 sentences of Rotten Tomatoes, 200 tweets and 200 news. Each start gets the same trials: the default rate,
the same rows, epochs and seeds. The epoch is chosen on 200 validation rows; the score is the accuracy on 500 others.
``auto`` chooses by a trial among IMDB, tweets and random weights. None of these is a reported task.

    python benchmarks/shared_start.py results/start --store DIR
    python benchmarks/shared_start.py results/start --table

One JSON file a run; what is there is not run again, and a source that was interrupted is continued.
"""

from __future__ import annotations

import argparse
import csv
import random
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from polytask.adapters.store import Store
from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.data.task import Task
from polytask.demo.corpora import CORPORA, Corpus, Labelled, Sizes, read_corpus
from polytask.methods import Houlsby
from polytask.training.loop import train
from polytask.training.recipe import Recipe
from polytask.training.result import environment
from polytask.training.start import start_from
from polytask.training.start_trial import choose_start
from polytask.training.to_store import train_multitask_to_store, train_to_store
from resumable import results_in, run_or_table, write_result

SOURCE = Recipe(Houlsby(64), epochs=2, max_length=64)
TARGET = Recipe(Houlsby(64), max_length=48)
SIZES = Sizes(train=1000, validation=200, test=500)


def _imdb(file: Path) -> Iterator[Labelled]:
    with file.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            if row["source"] == "imdb":
                yield row["text"], {"0": "negative", "1": "positive"}[row["label"]]


TOPIC, TWEETS, REVIEW = CORPORA
IMDB = Corpus("imdb", "IMDB reviews", REVIEW.package, REVIEW.path, _imdb)
SOURCES = {
    "imdb": (IMDB, Sizes(2000, 200, 200)),
    "mood": (TWEETS, Sizes(2000, 200, 200)),
}
TOGETHER = ("imdb", "mood")
STARTS = {
    "random weights": (),
    "imdb": ("imdb",),
    "mood": ("mood",),
    "average of imdb and mood": ("imdb", "mood"),
    "multi-task of imdb and mood": ("multitask",),
    "auto": ("auto",),
}


@dataclass(frozen=True)
class Case:
    """A target: its corpus, training rows, epochs (None: the default) and seeds, and what it starts from."""

    corpus: Corpus
    rows: int
    epochs: int | None
    seeds: int
    starts: tuple[str, ...]


CASES = (
    Case(REVIEW, 200, None, 2, tuple(STARTS)),
    Case(TOPIC, 200, 5, 2, ("random weights", "mood")),
    Case(TWEETS, 200, 5, 2, ("random weights", "imdb")),
    Case(REVIEW, 1000, 3, 2, ("random weights", "imdb", "multi-task of imdb and mood")),
)


def sources(backbone: Backbone, folder: Path) -> tuple[Store, Store]:
    """The store of the sources trained alone, and that of those trained together; what is missing is trained."""
    alone, together = Store(folder / "alone"), Store(folder / "together")
    for name in sorted(SOURCES.keys() - set(alone.tasks())):
        train_to_store(backbone, source(name), SOURCE, folder / "alone", resume=True)
    if set(together.tasks()) != set(TOGETHER):
        train_multitask_to_store(backbone, [*map(source, TOGETHER)], SOURCE, folder / "together", resume=True)
    return alone, together


def source(name: str) -> Task:
    """The task of a source."""
    corpus, sizes = SOURCES[name]
    return read_corpus(corpus, sizes, seed=1)


def few(task: Task, rows: int, seed: int) -> Task:
    """The task with so many of its training rows."""
    return task.with_train_rows(sorted(random.Random(f"{task.name} {seed}").sample(range(len(task.train)), rows)))


def measured(backbone: Backbone, task: Task, recipe: Recipe, start: str, stores: tuple[Store, Store]) -> dict[str, Any]:
    """Scores of one run, what it started from, and the seconds of training and of the trial."""
    started, (alone, together), names = time.perf_counter(), stores, STARTS[start]
    trial: dict[str, Any] = {}
    if start == "auto":
        candidates = {name: alone.get(name) for name in SOURCES if name != task.name}
        chosen = choose_start(backbone, task, recipe, candidates)
        own = chosen.start
        trial = {"scores": {each.name: each.score for each in chosen.trials}, "steps": chosen.steps, "why": chosen.why}
        trial["seconds"] = round(time.perf_counter() - started, 1)
    elif names == ("multitask",):
        own = start_from(together.get(TOGETHER[0]))
    else:
        own = start_from(list(names), alone)
    _, result = train(backbone, task, recipe, start=own)
    assert result.test is not None, "the task has test rows"
    scores = {"validation": result.validation.score, "test": result.test.score, "best_epoch": result.best_epoch}
    return {**scores, "started_from": result.start, "trial": trial, "seconds": round(result.train["seconds"], 1)}


def run(given: argparse.Namespace) -> None:
    """Run what is not there yet."""
    backbone = load_backbone("minilm", device="cpu")
    stores = sources(backbone, Path(given.store))
    targets = {case.corpus.task: read_corpus(case.corpus, SIZES) for case in CASES}
    for seed, case in product(range(max(case.seeds for case in CASES)), CASES):
        for start in case.starts if seed < case.seeds else ():
            task = few(targets[case.corpus.task], case.rows, seed)
            file = given.out / f"{task.name}-{case.rows}-{start.replace(' ', '_')}-{seed}.json"
            if file.exists():
                continue
            recipe = replace(TARGET, epochs=case.epochs, seed=seed)
            about: dict[str, Any] = {"task": task.name, "rows": case.rows, "start": start, "seed": seed}
            about |= measured(backbone, task, recipe, start, stores)
            about |= {"recipe": recipe.to_json(), "environment": environment(backbone.device, backbone.dtype)}
            write_result(file, about)
            print(file.stem, round(about["test"], 3), about["seconds"], flush=True)


def table(folder: Path) -> Iterator[str]:
    """A Markdown table: the mean over seeds, and the difference from random weights on the same rows."""
    by: dict[tuple[str, int], dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for own in results_in(folder):
        by[own["task"], own["rows"]][own["start"]][own["seed"]] = own["test"]
    yield "| task | rows | start | accuracy | seeds | gain, points | of each seed |"
    yield "|---|---:|---|---:|---:|---:|---|"
    for (task, rows), of_start in by.items():
        base = of_start["random weights"]
        for start in sorted(of_start, key=list(STARTS).index):
            scores = of_start[start]
            gains = [100 * (scores[seed] - base[seed]) for seed in sorted(scores) if seed in base]
            spread = f" ± {stdev(scores.values()):.3f}" if len(scores) > 1 else ""
            gain = (
                ("", "")
                if start == "random weights"
                else (f"{mean(gains):+.1f}", ", ".join(f"{g:+.1f}" for g in gains))
            )
            shown = f"{mean(scores.values()):.3f}{spread}"
            yield f"| {task} | {rows} | {start} | {shown} | {len(scores)} | {gain[0]} | {gain[1]} |"


def main() -> None:
    """Run, or print the table."""
    run_or_table(__doc__, run, table, store="start-adapters")


if __name__ == "__main__":
    main()
