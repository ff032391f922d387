"""Long documents: what truncating costs, and what windows with the mean of their answers win.

Posts of 20 newsgroups with 1,500 to 6,000 characters, by a probe or an adapter in the top two layers: the beginning of
a text at several lengths, or all of it in windows that overlap by a quarter. One JSON file a method, way and seed; what
is there is not run again.

    python benchmarks/long_documents.py results/long_documents --data DIR [--methods probe,houlsby] [--seeds 1]
    python benchmarks/long_documents.py results/long_documents --table
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

from polytask.backbones.loading import load_backbone
from polytask.data.task import Rows, Task
from polytask.methods import Houlsby, Probe
from polytask.suites.text17 import read_text17
from polytask.training.loop import train
from polytask.training.recipe import Recipe
from resumable import results_in, run_or_table, write_result

TASK = "20_newsgroups"
RECIPES = {"probe": Recipe(Probe()), "houlsby": Recipe(Houlsby(64, layers=2), epochs=4)}
WAYS: dict[str, dict[str, Any]] = {
    "first 64": {"max_length": 64},
    "first 128": {"max_length": 128},
    "first 256": {"max_length": 256},
    "first 512": {"max_length": 512},
    "windows of 128": {"max_length": 128, "long": "split"},
    "windows of 256": {"max_length": 256, "long": "split"},
}
CHARACTERS = range(1500, 6000)


def long_only(rows: Rows, most: int) -> Rows:
    """The first rows whose texts are long."""
    return rows.take([row for row, text in enumerate(rows.texts) if len(text) in CHARACTERS][:most])


def run(given: argparse.Namespace) -> None:
    """Run what is not there yet."""
    backbone = load_backbone("minilm", device="cpu")
    whole = read_text17(TASK, Path(given.data) / "text17")
    assert whole.test is not None, "the task has test rows"
    parts = {"train": long_only(whole.train, given.rows), "test": long_only(whole.test, given.rows)}
    task: Task = replace(whole, validation=long_only(whole.validation, 50), **parts)
    for seed in range(given.seeds):
        for method in given.methods.split(","):
            for way, settings in WAYS.items():
                file = given.out / f"{method}-{way.replace(' ', '-')}-{seed}.json"
                if file.exists():
                    continue
                recipe, started = replace(RECIPES[method], seed=seed, **settings), time.perf_counter()
                _, result = train(backbone, task, recipe)
                values = result.to_json()
                about = {"task": TASK, "method": method, "way": way, "seed": seed, "rows": given.rows}
                about |= {"recipe": recipe.to_json(), "test": values["test"], "tokens": result.train["tokens"]}
                about |= {"truncated": result.truncated, "seconds": round(time.perf_counter() - started, 1)}
                about["environment"] = result.environment
                write_result(file, about)
                print(file.stem, round(about["test"]["score"], 3), about["seconds"], flush=True)


def table(folder: Path) -> Iterator[str]:
    """A Markdown table: the mean over seeds."""
    by: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for own in results_in(folder):
        by[own["method"], own["way"]].append(own)
    yield "| method | read | seeds | test accuracy | training tokens |"
    yield "|---|---|---|---|---|"
    for method, way in sorted(by, key=lambda key: (key[0], list(WAYS).index(key[1]))):
        runs = by[method, way]
        low, high = runs[0]["test"]["interval"]
        score = f"{mean(own['test']['score'] for own in runs):.3f} ({low:.3f} to {high:.3f})"
        yield f"| {method} | {way} | {len(runs)} | {score} | {runs[0]['tokens']:,} |"


def main() -> None:
    """Run, or print the table."""
    run_or_table(__doc__, run, table, methods="probe", rows=300, seeds=1)


if __name__ == "__main__":
    main()
