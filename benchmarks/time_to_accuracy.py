"""Measures how long a training takes until it is as good as a peer's gets at its best: ours by its defaults.

Each training is a process of its own, on the same rows and weights, and leaves one JSON file with its curve: seconds
and validation accuracy after each epoch. Seconds include the scoring after each epoch, not loading. Trainings whose
file is there are not run again, so the whole can be measured in pieces: choose some with ``--task``, ``--system`` and
``--seed``. Every call draws the table from all files.

A peer (``adapters``, ``peft``: as their documentation trains, in fp32, and in bf16 autocast with rows grouped by
length) takes as long as it takes to its best epoch; ours, to the first epoch that is at least as good. Trainings that
do not get there are not in the median; ``reached`` says how many of the seeds did.

    benchmarks/peers/setup.sh
    python benchmarks/time_to_accuracy.py --data DIR --threads 2 [--task SST-2 --system polytask --seed 0]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from contenders import HERE, environments, results_folder, versions, write_csv
from work import model_folder

TASKS = ("CoLA", "SST-2", "crowdflower_airline", "crowdflower_disasters", "MRPC")
OURS = "polytask"
PEERS = ("adapters-default", "adapters-best", "peft-default", "peft-best")
MAX_LENGTH, VALIDATION = 128, 300
Curve = list[tuple[float, float]]


def read(name: str, data: Path, rows: int) -> Any:
    """The task, with at most so many training rows, and ``VALIDATION`` rows to score on."""
    from polytask.suites.glue import read_glue
    from polytask.suites.text17 import TEXT17, read_text17

    task = read_text17(name, data / "text17") if name in TEXT17 else read_glue(name, data / "glue")
    parts = {"train": (task.train, rows), "validation": (task.validation, VALIDATION)}
    return replace(task, **{part: own.take(range(min(len(own), most))) for part, (own, most) in parts.items()})


def write_work(name: str, data: Path, rows: int, model: Path, path: Path) -> None:
    """Write a task's training and validation rows as token ids, for the peers."""
    from transformers import AutoTokenizer

    from polytask.data.encoding import encode

    task, tokenizer = read(name, data, rows), AutoTokenizer.from_pretrained(model)
    content = {}
    for part, own in (("train", task.train), ("validation", task.validation)):
        encoded = encode(tokenizer, own, MAX_LENGTH)
        types = encoded.types or [[0] * len(ids) for ids in encoded.ids]
        targets = {"targets": list(own.targets), "num_labels": len(task.labels)}
        content[part] = {"ids": encoded.ids, "types": types, **targets}
    path.write_text(json.dumps(content))


def train_ours(name: str, data: Path, rows: int, seed: int, threads: int) -> Curve:
    """Seconds and validation accuracy after each epoch by ``Recipe()``, as ``peers.to_accuracy.train`` returns them."""
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


def command_of(task: str, system: str, seed: int, args: argparse.Namespace, scratch: Path) -> list[str]:
    """The command of one training."""
    if system == OURS:
        own = json.dumps([task, str(args.data), args.rows, seed, args.threads])
        return [sys.executable, __file__, "--train", own]
    library, _, setting = system.partition("-")
    model, work = model_folder("minilm", scratch), scratch / f"{task}.json"
    if not work.exists():
        write_work(task, args.data, args.rows, model, work)
    settings = {"library": library, "setting": setting, "model": str(model), "work": str(work)}
    told = json.dumps({**settings, "seed": seed, "threads": args.threads})
    return [str(environments(args.peers)[library]), "-m", "peers.to_accuracy", told]


def curve_of(command: Sequence[str], threads: int) -> Curve:
    """The curve that a process prints in its last line."""
    paths = os.pathsep.join([str(HERE), str(HERE.parent / "src")])
    own = {"PYTHONPATH": paths, "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**os.environ, **own}, text=True, check=True
    )
    curve: Curve = json.loads(done.stdout.splitlines()[-1])
    return curve


def run_missing(args: argparse.Namespace, folder: Path) -> None:
    """Run the chosen trainings whose file is missing; the systems take turns, a task and seed at a time."""
    with tempfile.TemporaryDirectory() as scratch:
        for task in args.task:
            for seed in args.seed:
                for system in args.system:
                    path = folder / f"{task}-{args.rows}-{system}-{seed}.json"
                    if not path.exists():
                        command = command_of(task, system, seed, args, Path(scratch))
                        save(path, task, system, seed, args, curve_of(command, args.threads))


def save(path: Path, task: str, system: str, seed: int, args: argparse.Namespace, curve: Curve) -> None:
    """Write the file of one training, whole or not at all."""
    about = {"task": task, "system": system, "seed": seed, "rows": args.rows, "threads": args.threads}
    part = path.with_suffix(".part")
    part.write_text(json.dumps({**about, "curve": curve, "versions": versions()}) + "\n")
    part.replace(path)
    print(f"{task}, seed {seed}, {system}: {curve[-1][1]:.4f} after {curve[-1][0]:.1f} s", file=sys.stderr, flush=True)


def table(folder: Path) -> Iterator[dict[str, Any]]:
    """A CSV row for each task, number of rows and peer, over the seeds that both ours and the peer's have files of."""
    curves: dict[tuple[str, int], dict[str, dict[int, Curve]]] = {}
    for path in sorted(folder.glob("*.json")):
        own = json.loads(path.read_text())
        systems = curves.setdefault((own["task"], own["rows"]), {})
        systems.setdefault(own["system"], {})[own["seed"]] = own["curve"]
    for (task, rows), systems in curves.items():
        for peer in PEERS:
            ours, theirs = systems.get(OURS, {}), systems.get(peer, {})
            seeds = sorted(ours.keys() & theirs.keys())
            if seeds:
                pairs = [(ours[seed], theirs[seed]) for seed in seeds]
                yield {"task": task, "rows": rows, "peer": peer, **compared(pairs)}


def compared(pairs: Sequence[tuple[Curve, Curve]]) -> dict[str, Any]:
    """The medians over seeds of the seconds to the peer's best accuracy, from our curve and the peer's of each seed."""
    found = []
    for mine, other in pairs:
        best = max(score for _, score in other)
        needed = next(seconds for seconds, score in other if score == best)
        reached = next((seconds for seconds, score in mine if score >= best), None)
        found.append((best, needed, reached, max(score for _, score in mine), mine[-1][0]))
    ratios = [needed / reached for _, needed, reached, *_ in found if reached is not None]
    return {
        "seeds": len(found),
        "peer_best": f"{median(best for best, *_ in found):.4f}",
        "our_best": f"{median(own for *_, own, _ in found):.4f}",
        "peer_s": f"{median(needed for _, needed, *_ in found):.1f}",
        "our_s": f"{median(reached for _, _, reached, *_ in found if reached is not None):.1f}" if ratios else "",
        "our_whole_s": f"{median(whole for *_, whole in found):.1f}",
        "reached": f"{len(ratios)} of {len(found)}",
        "times_as_fast": f"{median(ratios):.2f}" if ratios else "",
    }


def main() -> None:
    """Run what is missing, and write ``time-to-accuracy.csv`` from all files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the folder with glue/ and text17/")
    parser.add_argument("--task", action="append", help=f"repeatable; default: {', '.join(TASKS)}")
    parser.add_argument("--system", action="append", choices=(OURS, *PEERS), help="repeatable; default: all")
    parser.add_argument("--seed", action="append", type=int, help="repeatable; default: 0, 1, 2")
    parser.add_argument("--rows", type=int, default=2500, help="the most training rows of a task")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--peers", type=Path, default=Path(".venv-peers"))
    parser.add_argument("--out", type=Path, default=Path("results/speed"))
    parser.add_argument("--train", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.train:
        task, data, *numbers = json.loads(args.train)
        print(json.dumps(train_ours(task, Path(data), *numbers)))
        return
    args.task, args.system, args.seed = args.task or TASKS, args.system or (OURS, *PEERS), args.seed or (0, 1, 2)
    results = results_folder(args.out, "cpu", args.threads)
    folder = results / "time-to-accuracy"
    folder.mkdir(parents=True, exist_ok=True)
    run_missing(args, folder)
    rows = list(table(folder))
    if rows:
        write_csv(results / "time-to-accuracy.csv", rows)


if __name__ == "__main__":
    main()
