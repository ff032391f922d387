"""One version of Polytask as a contender: its public functions only, so that versions far apart can be compared."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch

import polytask as pt
from contenders import Run, serve

TEXTS = ("a tender funny film with a slow middle and a good end", "dull", "lifeless acting and a story told before")

FEW = 40
"""Training rows of the adapters that only answer."""

SCRATCH = tempfile.TemporaryDirectory()  # for as long as the process lives


def make(settings: dict[str, Any]) -> tuple[Run, dict[str, Any]]:
    """A short training, or answers to texts of one task or of several."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(settings["threads"])
    folder = Path(SCRATCH.name)
    backbone = pt.load_backbone("minilm", dtype=settings["dtype"], device=settings["device"])
    rows = settings["rows"] if settings["work_kind"] == "train" else FEW
    tasks = [task_in(folder, f"task{number}", rows) for number in range(settings["num_tasks"])]
    recipe = pt.Recipe(pt.Houlsby(64), epochs=1, max_length=64)
    if settings["work_kind"] == "train":
        return lambda _: pt.train(backbone, tasks[0], recipe)[1].validation.score, {}
    store = pt.Store(folder / "store")
    for task in tasks:
        store.put(pt.train(backbone, task, recipe)[0])
    multitask = pt.MultiTask(backbone, store)
    texts = [TEXTS[row % len(TEXTS)] + f" number {row}" for row in range(settings["rows"])]
    names = [task.name for task in tasks] * len(texts)
    return lambda _: len(multitask.predict(texts, names[: len(texts)])), {}


def task_in(folder: Path, name: str, rows: int) -> pt.Task:
    """A task of made-up rows with two labels."""
    lines = [f"{TEXTS[row % len(TEXTS)]} number {row},{'good' if row % 3 else 'bad'}\n" for row in range(rows)]
    (folder / f"{name}.csv").write_text("text,label\n" + "".join(lines))
    return pt.read_task(folder / f"{name}.csv", name=name)


if __name__ == "__main__":
    serve(make)
