"""Measures how long a training takes until it is as good as a peer's gets at its best: ours by its defaults.

Each training is a process of its own, on the same rows and weights; seconds include the scoring after each epoch, not
loading. A peer (``adapters``, ``peft``, as their documentation trains, in fp32, and in bf16 autocast with rows grouped
by length) takes as long as it takes to its best epoch; ours, to the first epoch that is at least as good. Trainings
that do not get there are not in the median; ``reached`` says how many of the seeds did.

    benchmarks/peers/setup.sh
    python benchmarks/time_to_accuracy.py --data DIR --threads 2 [--tasks …] [--seeds 3] [--rows 2500]
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from contenders import HERE, environments, results_folder, write_csv
from work import model_folder

TASKS = ("CoLA", "SST-2", "crowdflower_airline", "crowdflower_disasters", "MRPC")
PEERS = tuple(itertools.product(("adapters", "peft"), ("default", "best")))
MAX_LENGTH = 128
Curve = list[tuple[float, float]]


def write_work(name: str, data: Path, rows: int, model: Path, path: Path) -> None:
    """A task's training and validation rows as token ids, for the peers."""
    from transformers import AutoTokenizer

    from polytask.data.encoding import encode

    task, tokenizer = read(name, data, rows), AutoTokenizer.from_pretrained(model)
    content = {}
    for part, own in (("train", task.train), ("validation", task.validation)):
        encoded = encode(tokenizer, own, MAX_LENGTH)
        types = encoded.types or [[0] * len(ids) for ids in encoded.ids]
        content[part] = {
            "ids": encoded.ids,
            "types": types,
            "targets": list(own.targets),
            "num_labels": len(task.labels),
        }
    path.write_text(json.dumps(content))


def read(name: str, data: Path, rows: int) -> Any:
    """The task."""
    from polytask.suites.glue import read_glue
    from polytask.suites.text17 import TEXT17, read_text17

    if name in TEXT17:
        return read_text17(name, data / "text17", limit=rows)
    return read_glue(name, data / "glue", limit=rows)


def train_ours(name: str, data: Path, rows: int, seed: int, threads: int) -> Curve:
    """As ``peers.to_accuracy.train``: seconds and validation accuracy after each epoch, by ``Recipe()``."""
    import torch

    import polytask as pt
    from polytask.training.events import Evaluated, Event

    torch.set_num_threads(threads)
    task, backbone = replace(read(name, data, rows), metric="accuracy"), pt.load_backbone("minilm", device="cpu")
    curve: Curve = []
    start = time.perf_counter()

    def note(event: Event) -> None:
        if isinstance(event, Evaluated):
            curve.append((time.perf_counter() - start, event.score))

    pt.train(backbone, task, pt.Recipe(seed=seed, max_length=MAX_LENGTH), progress=note)
    return curve


def run(command: Sequence[str], threads: int) -> Curve:
    """The curve that a process prints in its last line."""
    paths = os.pathsep.join([str(HERE), str(HERE.parent / "src")])
    own = {"PYTHONPATH": paths, "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**os.environ, **own}, text=True, check=True
    )
    curve: Curve = json.loads(done.stdout.splitlines()[-1])
    return curve


def compared(task: str, peer: str, ours: Sequence[Curve], theirs: Sequence[Curve]) -> dict[str, Any]:
    """A CSV row: the medians over seeds of the seconds to the peer's best accuracy."""
    pairs = []
    for mine, other in zip(ours, theirs, strict=True):
        best = max(score for _, score in other)
        needed = next(seconds for seconds, score in other if score == best)
        reached = next((seconds for seconds, score in mine if score >= best), None)
        pairs.append((best, needed, reached, max(score for _, score in mine)))
    ratios = [needed / reached for _, needed, reached, _ in pairs if reached is not None]
    return {
        "task": task,
        "peer": peer,
        "seeds": len(pairs),
        "peer_best": f"{median(best for best, *_ in pairs):.4f}",
        "our_best": f"{median(own for *_, own in pairs):.4f}",
        "peer_s": f"{median(needed for _, needed, *_ in pairs):.1f}",
        "our_s": f"{median(reached for _, _, reached, _ in pairs if reached is not None):.1f}" if ratios else "",
        "reached": f"{len(ratios)} of {len(pairs)}",
        "times_as_fast": f"{median(ratios):.2f}" if ratios else "",
    }


def of_task(task: str, args: argparse.Namespace, scratch: Path) -> list[dict[str, Any]]:
    """The rows of a task; the contenders take turns, a seed at a time."""
    model, work = model_folder("minilm", scratch), scratch / f"{task}.json"
    write_work(task, args.data, args.rows, model, work)
    pythons = environments(args.peers)
    ours: list[Curve] = []
    theirs: dict[str, list[Curve]] = {}
    for seed in range(args.seeds):
        own = f"{task},{args.data},{args.rows},{seed},{args.threads}"
        ours.append(run([sys.executable, __file__, "--ours", own], args.threads))
        print(f"{task}, seed {seed}: ours {ours[-1][-1]}", file=sys.stderr, flush=True)
        for library, setting in PEERS:
            if setting not in args.settings.split(","):
                continue
            settings = {"library": library, "setting": setting, "model": str(model), "work": str(work)}
            told = json.dumps({**settings, "seed": seed, "threads": args.threads})
            curve = run([str(pythons[library]), "-m", "peers.to_accuracy", told], args.threads)
            theirs.setdefault(f"{library}, {setting}", []).append(curve)
            print(f"{task}, seed {seed}: {library}, {setting} {curve[-1]}", file=sys.stderr, flush=True)
    return [compared(task, peer, ours, curves) for peer, curves in theirs.items()]


def main() -> None:
    """Measure and write ``time-to-accuracy.csv``, after each task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the folder with glue/ and text17/")
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--settings", default="default,best", help="of the peers")
    parser.add_argument("--rows", type=int, default=2500)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--peers", type=Path, default=Path(".venv-peers"))
    parser.add_argument("--out", type=Path, default=Path("results/speed"))
    parser.add_argument("--ours", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.ours:
        task, data, *numbers = args.ours.split(",")
        print(json.dumps(train_ours(task, Path(data), *map(int, numbers))))
        return
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for task in args.tasks.split(","):
            rows += of_task(task, args, Path(scratch))
            write_csv(results_folder(args.out, "cpu", args.threads) / "time-to-accuracy.csv", rows)


if __name__ == "__main__":
    main()
