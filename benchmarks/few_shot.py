"""Few rows a class: a probe, adapters, full fine-tuning and setfit on six real tasks.

Of each task a number of training rows a class is drawn with a seed; the score is accuracy and macro-F1 on the same
test rows for all. No row is held out: the last epoch is scored. One JSON file for each task, method, number of rows and
seed; what is there is not run again, so that an interrupted benchmark goes on where it stopped.

    python benchmarks/few_shot.py results/few_shot --data DIR [--methods probe,houlsby] [--rows 8,16] [--seeds 5]
    python benchmarks/few_shot.py results/few_shot --table

``setfit`` runs in its own environment (``benchmarks/peers/setup.sh``): with its interpreter, ``--methods setfit
--python .venv-peers/setfit/bin/python``.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from sklearn.metrics import accuracy_score, f1_score

from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.data.encoding import encode
from polytask.data.task import Task
from polytask.methods import FullFineTuning, Houlsby, LoRA, Probe
from polytask.suites.text17 import read_text17
from polytask.training.job import Job, attached_to
from polytask.training.loop import run_jobs
from polytask.training.recipe import Recipe
from polytask.training.result import environment
from polytask.training.scoring import predictions_of
from resumable import results_in, run_or_table, write_result

TASKS = (
    "sms_spam",
    "news_aggregator",
    "crowdflower_airline",
    "crowdflower_political_message",
    "customer_complaints",
    "20_newsgroups",
)
RECIPES = {
    "probe": Recipe(Probe()),
    "houlsby": Recipe(Houlsby(64)),
    "houlsby-40": Recipe(Houlsby(64), epochs=40, batch_size=16),
    "lora": Recipe(LoRA()),
    "full": Recipe(FullFineTuning()),
}
MAX_LENGTH, TEST_ROWS = 48, 200
SETFIT = Path(__file__).parent / "peers" / "with_setfit.py"


def few(task: Task, rows_a_class: int, seed: int) -> Task:
    """The task with so many training rows of each class, or all it has, and a fixed draw of its test rows."""
    assert task.train.targets is not None, "training rows have targets"
    of_class: dict[Any, list[int]] = defaultdict(list)
    for row, target in enumerate(task.train.targets):
        of_class[target].append(row)
    draw = random.Random(f"{task.name} {seed}")
    chosen = [
        row for label in sorted(of_class) for row in draw.sample(of_class[label], len(of_class[label]))[:rows_a_class]
    ]
    draw.shuffle(chosen)
    assert task.test is not None, "the tasks have test rows"
    tested = random.Random(task.name).sample(range(len(task.test)), min(TEST_ROWS, len(task.test)))
    train = task.train.take(chosen)
    return replace(task, train=train, validation=train.take(range(2)), test=task.test.take(sorted(tested)))


def answers(backbone: Backbone, task: Task, recipe: Recipe) -> list[Any]:
    """The answers on the test rows of a recipe after its last epoch."""
    assert task.test is not None, "the tasks have test rows"
    job = Job(backbone, task, recipe)
    for _ in run_jobs(backbone, [job]):
        pass
    encoded = encode(backbone.tokenizer, task.test, *job.cut)
    with attached_to(backbone, [job]) as attached:
        return predictions_of(
            backbone, attached, job.live, job.name, encoded, keep_prefix=isinstance(recipe.method, Probe)
        )


def setfit_answers(python: str, task: Task, seed: int) -> list[Any]:
    """The answers of setfit, by its own interpreter."""
    assert task.test is not None, "the tasks have test rows"
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder, "given.json"), Path(folder, "found.json")
        asked = {"train": task.train.texts, "targets": task.train.targets, "test": task.test.texts}
        asked |= {"seed": seed, "max_length": MAX_LENGTH}
        given.write_text(json.dumps({k: list(v) if isinstance(v, Sequence) else v for k, v in asked.items()}))
        subprocess.run([python, str(SETFIT), str(given), str(found)], check=True)
        return list(json.loads(found.read_text()))


def measured(task: Task, found: Sequence[Any], seconds: float) -> dict[str, Any]:
    """Scores of answers on the test rows."""
    assert task.test is not None, "the tasks have test rows"
    truth = list(task.test.targets or ())
    scores = {"accuracy": float(accuracy_score(truth, found))}
    scores["macro_f1"] = float(f1_score(truth, found, average="macro"))
    return {**scores, "test_rows": len(truth), "train_rows": len(task.train), "seconds": round(seconds, 2)}


def run(given: argparse.Namespace) -> None:
    """Run what is not there yet: few rows first, then seeds, then tasks."""
    backbone = load_backbone("minilm", device="cpu")
    tasks = {name: read_text17(name, Path(given.data) / "text17") for name in given.tasks.split(",")}
    for rows in map(int, given.rows.split(",")):
        for seed in range(given.seeds):
            for name, whole in tasks.items():
                for method in given.methods.split(","):
                    file = given.out / f"{name}-{method}-{rows}-{seed}.json"
                    if file.exists():
                        continue
                    task, started = few(whole, rows, seed), time.perf_counter()
                    if method == "setfit":
                        recipe, found = {}, setfit_answers(given.python, task, seed)
                    else:
                        own = replace(RECIPES[method], seed=seed, max_length=MAX_LENGTH)
                        recipe, found = own.to_json(), answers(backbone, task, own)
                    about = {"task": name, "method": method, "rows_a_class": rows, "seed": seed, "recipe": recipe}
                    about |= measured(task, found, time.perf_counter() - started)
                    about["environment"] = environment(backbone.device, backbone.dtype)
                    write_result(file, about)
                    print(file.stem, about["accuracy"], about["seconds"], flush=True)


def table(folder: Path) -> Iterator[str]:
    """A Markdown table: the mean accuracy over tasks and seeds, where all methods have the same runs."""
    runs = results_in(folder)
    by: dict[tuple[str, int], dict[tuple[str, int], float]] = defaultdict(dict)
    for own in runs:
        by[own["method"], own["rows_a_class"]][own["task"], own["seed"]] = own["accuracy"]
    yield "| method | rows a class | tasks | seeds | accuracy | spread of the seeds' means |"
    yield "|---|---|---|---|---|---|"
    for method, rows in sorted(by, key=lambda key: (key[1], key[0])):
        shared = set.intersection(*(set(found) for (_, other), found in by.items() if other == rows))
        if not shared:
            continue
        seeds = sorted({seed for _, seed in shared})
        means = [mean(by[method, rows][key] for key in shared if key[1] == seed) for seed in seeds]
        spread = f"{stdev(means):.3f}" if len(means) > 1 else ""
        tasks = len({task for task, _ in shared})
        yield f"| {method} | {rows} | {tasks} | {len(seeds)} | {mean(means):.3f} | {spread} |"


def main() -> None:
    """Run, or print the table."""
    options = {"tasks": ",".join(TASKS), "methods": "probe,houlsby,full", "rows": "8,16,64"}
    run_or_table(__doc__, run, table, **options, seeds=5, python=sys.executable)


if __name__ == "__main__":
    main()
