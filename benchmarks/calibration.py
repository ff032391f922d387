"""Expected calibration error and Brier score before and after calibration, on the demo's corpora.

    python benchmarks/calibration.py results/calibration --tasks mood,review --seeds 2

A training on the packaged MiniLM for each task and seed; one JSON file each with what the adapter's card says.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from polytask.backbones.loading import load_backbone
from polytask.demo.corpora import CORPORA, Sizes, read_corpus
from polytask.methods import Houlsby
from polytask.training.loop import train
from polytask.training.recipe import Recipe


def main() -> None:
    """Train, and write what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tasks", default="mood,review")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=5)
    given = parser.parse_args()
    backbone = load_backbone("minilm", device="cpu")
    given.out.mkdir(parents=True, exist_ok=True)
    for corpus in (own for own in CORPORA if own.task in given.tasks.split(",")):
        task = read_corpus(corpus, Sizes(train=1000, validation=400, test=1000))
        for seed in range(given.seeds):
            file = given.out / f"{corpus.task}-{seed}.json"
            if file.exists():
                continue
            recipe = Recipe(Houlsby(64), epochs=given.epochs, max_length=corpus.max_length, seed=seed)
            adapter, result = train(backbone, task, recipe)
            said = {**(result.calibration or {}), "calibration": adapter.header.calibration}
            whole = {"task": task.name, "seed": seed, "recipe": recipe.to_json(), "test": result.to_json()["test"]}
            whole |= {"data_digest": result.data_digest, "environment": result.environment, **said}
            file.write_text(json.dumps(whole, indent=1) + "\n", "utf-8")
            print(file, {side: (said[side]["ece"], said[side]["brier"]) for side in ("before", "after")}, flush=True)


if __name__ == "__main__":
    main()
