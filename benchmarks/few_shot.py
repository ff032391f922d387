"""Few rows a class: a probe, adapters, full fine-tuning and setfit on six real tasks.

Of each task a number of training rows a class is drawn with a seed (of a rarer class all that there are); the score is
the accuracy on the same test rows for all. No row is held out: the last epoch is scored. All seeds of a task train in
one pass. One JSON file a task, method, number of rows and seed; what is there is not run again.

    python benchmarks/few_shot.py results/few_shot --data DIR [--methods probe,houlsby] [--rows 8,16] [--seeds 5]
    python benchmarks/few_shot.py results/few_shot --table

``setfit`` runs in its own environment (``benchmarks/peers/setup.sh .venv-peers setfit``): ``--methods setfit --python
.venv-peers/setfit/bin/python``. Recipes for few rows were compared on tasks that are not in the table: ``--tasks
topic,customer_complaints,crowdflower_disasters,crowdflower_political_audience,crowdflower_political_bias`` into
``results/few_shot_recipes``.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

from sklearn.metrics import accuracy_score, f1_score

from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.data.task import Task
from polytask.demo.corpora import CORPORA, read_corpus
from polytask.methods import FullFineTuning, Houlsby, LayerNormOnly, LoRA, Probe
from polytask.suites.glue import read_glue
from polytask.suites.text17 import read_text17
from polytask.training.job import Job, attached_to
from polytask.training.loop import run_jobs
from polytask.training.recipe import Recipe
from polytask.training.result import environment
from polytask.training.scoring import predictions_of
from resumable import begun_within, mean_and_spread, results_in, run_or_table, write_result

TASKS = (
    "sms_spam",
    "news_aggregator",
    "crowdflower_airline",
    "crowdflower_corporate_messaging",
    "crowdflower_global_warming",
    "SST-2",
)
RECIPES = {
    "probe": Recipe(Probe()),
    "houlsby": Recipe(Houlsby(64)),
    "houlsby-10-epochs": Recipe(Houlsby(64), epochs=10),
    "houlsby-lr3e-4": Recipe(Houlsby(64), lr=3e-4),
    "houlsby-no-dropout": Recipe(Houlsby(64), head_dropout=0.0),
    "houlsby-top2": Recipe(Houlsby(64, layers=2)),
    "layernorm": Recipe(LayerNormOnly()),
    "lora": Recipe(LoRA()),
    "full": Recipe(FullFineTuning()),
    "full-lr3e-5": Recipe(FullFineTuning(), lr=3e-5),
}
VARIANT = re.compile(r"(?P<recipe>.+?)(?P<on_probe>-on-probe)?(-(?P<steps>\d+)-steps)?")
"""``full-on-probe-30-steps``: a recipe whose head starts as the probe's, with the epochs that make 30 steps; for up to
64 rows that is the default of adapters."""
MAX_LENGTH, TEST_ROWS = 48, 300
SETFIT = Path(__file__).parent / "peers" / "with_setfit.py"


def read(name: str, data: Path) -> Task:
    """A task with labelled test rows; ``topic`` is of a package of the demo."""
    packaged = {corpus.task: corpus for corpus in CORPORA}
    if name in packaged:
        return read_corpus(packaged[name])
    if name != "SST-2":
        return read_text17(name, data / "text17")
    task = read_glue(name, data / "glue")
    return replace(task, test=task.validation)  # the labels of GLUE's test rows are not public


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


def variant(method: str, num_rows: int) -> Recipe:
    """The recipe of a variant for so many training rows."""
    found = VARIANT.fullmatch(method)
    assert found is not None, method
    recipe = replace(RECIPES[found["recipe"]], max_length=MAX_LENGTH)
    if found["on_probe"]:
        recipe = replace(recipe, head_start="probe")
    if found["steps"]:
        recipe = replace(recipe, epochs=-(-int(found["steps"]) // -(-num_rows // recipe.batch_size)))
    return recipe


def answers(backbone: Backbone, drawn: Mapping[int, Task], recipe: Recipe) -> list[list[Any]]:
    """The answers on the test rows after the last epoch, of the draw of each seed; all train in one pass."""
    jobs = [Job(backbone, task, replace(recipe, seed=seed), f"seed {seed}") for seed, task in drawn.items()]
    for _ in run_jobs(backbone, jobs):
        pass
    return [answers_of(backbone, job) for job in jobs]


def answers_of(backbone: Backbone, job: Job) -> list[Any]:
    """The answers of a trained job on the test rows; the vectors of a probe are kept for the next one."""
    assert job.task.test is not None, "the tasks have test rows"
    encoded = job.encodings.of(job.task.test, *job.cut)
    with attached_to(backbone, [job]) as attached:
        is_probe = isinstance(job.recipe.method, Probe)
        return predictions_of(backbone, attached, job.live, job.name, encoded, keep_prefix=is_probe)


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


def measured(task: Task, found: Sequence[Any]) -> dict[str, Any]:
    """Scores of answers on the test rows."""
    assert task.test is not None, "the tasks have test rows"
    truth = list(task.test.targets or ())
    scores = {"accuracy": float(accuracy_score(truth, found))}
    scores["macro_f1"] = float(f1_score(truth, found, average="macro"))
    return {**scores, "test_rows": len(truth), "train_rows": len(task.train)}


def run_seeds(given: argparse.Namespace, backbone: Backbone, whole: Task, method: str, rows: int, seeds: range) -> None:
    """Run these seeds of a task, method and number of rows, and write a file for each."""
    drawn, started = {seed: few(whole, rows, seed) for seed in seeds}, time.perf_counter()
    if method == "setfit":
        recipe, found = {}, [setfit_answers(given.python, drawn[seed], seed) for seed in seeds]
    else:
        num_rows = len(next(iter(drawn.values())).train)
        own = variant(method, num_rows).resolved(num_rows, whole.kind)
        recipe, found = own.to_json(), answers(backbone, drawn, own)
    seconds = (time.perf_counter() - started) / len(seeds)
    for seed, of_seed in zip(seeds, found, strict=True):
        about = {"task": whole.name, "method": method, "rows_a_class": rows, "seed": seed, "recipe": recipe}
        about |= {**measured(drawn[seed], of_seed), "seconds": round(seconds, 2)}
        about["environment"] = environment(backbone.device, backbone.dtype)
        write_result(file_of(given.out, whole.name, method, rows, seed), about)
    print(whole.name, method, rows, f"{len(seeds)} seeds, {seconds:.1f} s each", flush=True)


def file_of(folder: Path, task: str, method: str, rows: int, seed: int) -> Path:
    """The file of a run."""
    return folder / f"{task}-{method}-{rows}-{seed}.json"


def run(given: argparse.Namespace) -> None:
    """Run what is not there yet: few rows first, then tasks, then methods."""
    backbone = load_backbone("minilm", device="cpu")
    tasks = {name: read(name, Path(given.data)) for name in given.tasks.split(",")}
    cells = [
        (int(rows), name, method)
        for rows in given.rows.split(",")
        for name in tasks
        for method in given.methods.split(",")
    ]
    for rows, name, method in begun_within(given.minutes, cells):
        done = [file_of(given.out, name, method, rows, seed).exists() for seed in range(given.seeds)]
        if not all(done):
            run_seeds(given, backbone, tasks[name], method, rows, range(done.index(False), given.seeds))


def table(folder: Path) -> Iterator[str]:
    """A Markdown table of each task: the mean accuracy, and the seeds that it is over; at the end over all tasks."""
    by: dict[tuple[str, int], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for own in results_in(folder):
        by[own["method"], own["rows_a_class"]][own["task"]].append(own["accuracy"])
    tasks = list(dict.fromkeys(task for found in by.values() for task in found))
    tasks.sort(key=lambda task: TASKS.index(task) if task in TASKS else len(TASKS))
    everywhere = [task for task in tasks if task in TASKS] or tasks
    yield f"| rows a class | method | {' | '.join(tasks)} | mean |"
    yield "|---|---|" + "---|" * (len(tasks) + 1)
    for method, rows in sorted(by, key=lambda key: (key[1], key[0])):
        found = by[method, rows]
        cells = [mean_and_spread(found[task]) if task in found else "" for task in tasks]
        is_whole = all(task in found for task in everywhere)
        whole = f"{mean(mean(found[task]) for task in everywhere):.3f}" if is_whole else ""
        yield f"| {rows} | {method} | {' | '.join(cells)} | {whole} |"


def main() -> None:
    """Run, or print the table."""
    options = {"tasks": ",".join(TASKS), "methods": "probe,houlsby,full", "rows": "8,16,64"}
    run_or_table(__doc__, run, table, **options, seeds=5, python=sys.executable)


if __name__ == "__main__":
    main()
