"""Compares adapters with full fine-tuning: the same backbone, data, pooling and number of trials for each method.

For each task and method, every learning rate is tried with the first seed and the best is chosen on a seeded 10% held
out of train; the other seeds run at that rate; the score reported is on dev (GLUE) or test, on rows that selected
nothing. Each run is one JSON file, so an interrupted benchmark can be continued.

    python benchmarks/parity.py --data DIR --out results/parity
    python benchmarks/parity.py --out results/parity --report docs/parity.md
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from statistics import mean

import torch

import polytask as pt
from polytask.data.task import Task
from polytask.files import write_text
from polytask.methods import FullFineTuning, Houlsby, LayerNormOnly, Method
from polytask.suites.glue import read_glue
from polytask.suites.text17 import TEXT17, read_text17
from polytask.training.events import Evaluated, Event
from polytask.training.loop import train
from polytask.training.recipe import Recipe

METHODS: dict[str, tuple[Method, tuple[float, ...]]] = {
    "houlsby-64": (Houlsby(64), (5e-4, 1e-3)),
    "full": (FullFineTuning(), (5e-5, 1.5e-4)),
    "layernorm": (LayerNormOnly(), (3e-3, 1e-2)),
}
TASKS = ("RTE", "MRPC", "CoLA", "SST-2", "crowdflower_airline")
LIMITS = {"SST-2": 10_000}
METRIC_NAMES = {"matthews": "Matthews", "f1": "F1", "accuracy": "accuracy"}


def read(name: str, data: Path, limit: int | None) -> Task:
    """The task, with validation rows for selection and test rows for the reported score."""
    if name in TEXT17:
        return read_text17(name, data / "text17", limit=limit)
    return read_glue(name, data / "glue", limit=limit)


def run(out: Path, backbone: pt.Backbone, task: Task, label: str, recipe: Recipe) -> dict[str, object]:
    """The result of one recipe, read from its file if it was run before."""
    path = out / f"{task.name}-{label}-{recipe.lr:g}-{recipe.seed}.json"
    if not path.exists():

        def show(event: Event) -> None:
            if isinstance(event, Evaluated):
                print(f"{path.stem}: epoch {event.epoch}/{event.num_epochs} {event.score:.4f}", flush=True)

        _, result = train(backbone, task, recipe, progress=show)
        write_text(path, json.dumps(result.to_json(), indent=1) + "\n")
    return json.loads(path.read_text())


def runs(args: argparse.Namespace) -> Iterator[dict[str, object]]:
    """All runs, learning rates first, then the other seeds at the best of them."""
    backbone = pt.load_backbone(args.backbone)
    for name in args.tasks.split(","):
        task = read(name, args.data, args.limit or LIMITS.get(name))
        for label in args.methods.split(","):
            method, rates = METHODS[label]
            rates = tuple(float(rate) for rate in args.lr.split(",")) if args.lr else rates
            tried = []
            for rate in rates:
                recipe = Recipe(method, lr=rate, epochs=args.epochs, seed=0)
                tried.append(run(args.out, backbone, task, label, recipe))
                yield tried[-1]
            best = max(tried, key=lambda result: result["validation"]["score"])["recipe"]["lr"]
            for seed in range(1, args.seeds):
                yield run(args.out, backbone, task, label, Recipe(method, lr=best, epochs=args.epochs, seed=seed))


def chosen(results: list[dict]) -> list[dict]:
    """The runs at the learning rate that did best on the held-out rows with the first seed."""
    first = [result for result in results if result["recipe"]["seed"] == 0]
    rate = max(first, key=lambda result: result["validation"]["score"])["recipe"]["lr"]
    return [result for result in results if result["recipe"]["lr"] == rate]


def report(out: Path) -> str:
    """The table, made from the result files."""
    found: dict[tuple[str, str], list[dict]] = {}
    for path in sorted(out.glob("*.json")):
        result = json.loads(path.read_text())
        label = next(label for label in METHODS if f"-{label}-" in path.name)
        found.setdefault((result["task"], label), []).append(result)
    tasks = [task for task in TASKS if any((task, label) in found for label in METHODS)]
    lines = ["| task (metric) | " + " | ".join(METHODS) + " | commonest label |", "|---" * (len(METHODS) + 2) + "|"]
    means: dict[str, list[float]] = {label: [] for label in METHODS}
    for task in tasks:
        cells = [cell(found.get((task, label), []), means[label]) for label in METHODS]
        one = next(found[task, label] for label in METHODS if (task, label) in found)[0]
        majority = f"{100 * one['majority']:.1f}"
        lines.append(f"| {task} ({METRIC_NAMES[one['test']['metric']]}) | " + " | ".join(cells) + f" | {majority} |")
    whole = [f"**{mean(scores):.1f}**" if len(scores) == len(TASKS) else "–" for scores in means.values()]
    lines.append("| **mean** | " + " | ".join(whole) + " | |")
    trained = [next((runs for (_, of), runs in found.items() if of == label), None) for label in METHODS]
    counts = [
        f"{r[0]['parameters']['trained']:,} ({r[0]['parameters']['percent']:.2f}%)" if r else "–" for r in trained
    ]
    lines.append("| trained | " + " | ".join(counts) + " | |")
    return "\n".join(lines) + "\n"


def cell(results: list[dict], scores_so_far: list[float]) -> str:
    """The mean over seeds, each seed and the learning rate; a dash if a run is missing."""
    picked = chosen(results) if results else []
    if len(picked) < 2:
        return "–"
    scores = [100 * result["test"]["score"] for result in picked]
    scores_so_far.append(mean(scores))
    return f"{mean(scores):.1f} ({', '.join(f'{s:.1f}' for s in scores)}; lr {picked[0]['recipe']['lr']:g})"


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the folder with glue/ and text17/; without it nothing is run")
    parser.add_argument("--out", type=Path, default=Path("results/parity"))
    parser.add_argument("--backbone", default="minilm")
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--lr", help="learning rates to try instead of each method's own, as 1e-3,3e-3")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, help="instead of the recipe's choice by number of rows")
    parser.add_argument("--limit", type=int, help="training rows at most")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--report", type=Path, help="write the table here, too")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.data:
        for result in runs(args):
            print(json.dumps({key: result[key] for key in ("task", "validation", "test")}), flush=True)
    table = report(args.out)
    print(table)
    if args.report:
        write_text(args.report, table)


if __name__ == "__main__":
    main()
