"""Compares recipes on development tasks: variants × tasks × seeds, one JSON file for each run.

    python benchmarks/recipe_trials.py --tasks DIR/grammar DIR/mood --seeds 2     # variants: recipe_variants.json

A task is a folder with ``train.csv``, ``validation.csv`` and, if there is one, ``test.csv`` (columns ``text``,
``label`` and, for pairs, ``text_pair``), and maybe the name of its metric in a file ``metric``. The variants are
settings of a recipe by name, those of its method under ``method``:

    {"adapters@1e-3": {"lr": 1e-3}, "adapters@3e-4": {"lr": 3e-4}, "averaged": {"lr": 1e-3, "ema": 0.99},
     "full@1e-4": {"lr": 1e-4, "method": {"name": "full"}}}

What has run is not run again, and what was interrupted continues. Choose tasks whose scores are not reported
elsewhere. With ``--together``, runs of a task share forward passes: faster, but their seconds say nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch

import polytask as pt
import recipe_tables
from polytask.files import write_text
from polytask.methods import METHODS
from polytask.training.result import Result

SPLITS = ("validation", "test")
VARIANTS = Path(__file__).with_name("recipe_variants.json")


@dataclass(frozen=True)
class Run:
    """A variant on a task with a seed, and the file of its result."""

    task: str
    variant: str
    recipe: pt.Recipe
    file: Path

    def saved(self) -> dict[str, Any] | None:
        """Its result as JSON values; None if it has not run."""
        if not self.file.exists():
            return None
        result: dict[str, Any] = json.loads(self.file.read_text())
        asked, ran = self.recipe.to_json(), result["recipe"]
        if asked.keys() != ran.keys() or any(asked[name] not in (None, ran[name]) for name in asked):
            raise SystemExit(f"{self.file} was run with other settings: give the variant another name")
        return result

    def save(self, result: Result, together: int) -> None:
        """Write its result."""
        values = {"variant": self.variant, "together": together, **result.to_json()}
        write_text(self.file, json.dumps(values, indent=1) + "\n")


def recipe_of(settings: Mapping[str, Any], seed: int) -> pt.Recipe:
    """The recipe with these settings, the others at their defaults."""
    method = dict(settings.get("method", {}))
    made = METHODS[method.pop("name", "houlsby")](**method)
    return pt.Recipe(made, **{"max_length": 128, **{k: v for k, v in settings.items() if k != "method"}}, seed=seed)


def read(folder: Path, rows: int | None) -> pt.Task:
    """The task in a folder, with its first ``rows`` training rows."""
    files = {split: folder / f"{split}.csv" for split in SPLITS if (folder / f"{split}.csv").exists()}
    metric = (folder / "metric").read_text().strip() if (folder / "metric").exists() else None
    task = pt.read_task(folder / "train.csv", name=folder.name, metric=metric, **files)  # type: ignore[arg-type]
    return replace(task, train=task.train.take(range(min(rows or len(task.train), len(task.train)))))


def run_missing(runs: list[Run], folders: list[Path], args: argparse.Namespace) -> None:
    """Train what has not run, task by task."""
    backbone = pt.load_backbone(args.backbone, dtype=args.dtype)
    for folder in folders:
        missing = [run for run in runs if run.task == folder.name and run.saved() is None]
        task = read(folder, args.rows) if missing else None
        for start in range(0, len(missing), args.together):
            chunk = missing[start : start + args.together]
            jobs = {run.file.stem: (task, run.recipe) for run in chunk}
            checkpoint = checkpoint_of(chunk)
            outcomes = pt.train_many(backbone, jobs, checkpoint=checkpoint, resume=True)
            for run, outcome in zip(chunk, outcomes.values(), strict=True):
                if isinstance(outcome, Exception):
                    print(f"{run.file.stem}: {outcome}", flush=True)
                    continue
                run.save(outcome[1], len(chunk))
                print(f"{run.file.stem}: {outcome[1].validation.score:.4f}", flush=True)
            checkpoint.unlink(missing_ok=True)


def checkpoint_of(chunk: list[Run]) -> Path:
    """The checkpoint of runs that train together, beside their results."""
    name = hashlib.sha256(" ".join(run.file.stem for run in chunk).encode()).hexdigest()[:16]
    return chunk[0].file.with_name(f".{name}.ckpt")


def main() -> None:
    """Run what is missing and print the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=Path, nargs="+", required=True, help="folders of tasks")
    parser.add_argument("--variants", type=Path, default=VARIANTS, help="a JSON file of settings by name")
    parser.add_argument("--only", nargs="+", help="names of variants to run and show, instead of all")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--rows", type=int, help="the most training rows")
    parser.add_argument("--together", type=int, default=1, help="runs that share forward passes")
    parser.add_argument("--backbone", default="minilm")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("results/recipes"))
    parser.add_argument("--report", action="store_true", help="run nothing")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    variants = json.loads(args.variants.read_text())
    chosen = {name: variants[name] for name in args.only or variants}
    runs = [
        Run(folder.name, name, recipe_of(chosen[name], seed), args.out / f"{folder.name}-{name}-{seed}.json")
        for folder, seed, name in product(args.tasks, range(args.seeds), chosen)
    ]
    if not args.report:
        run_missing(runs, args.tasks, args)
    recipe_tables.print_all(args.out)


if __name__ == "__main__":
    main()
