"""Measures the memory of training, ours and the peers', and of a thousand adapters; also switching and cold start.

Each training process is fresh and runs alone. Its peak is what the system counted (``VmHWM``) from when it had loaded,
with the libraries in it, over two passes of batches of all lengths, in the order that the contender takes them in. The
thousand adapters are Houlsby-64 of random numbers in a store, all of them loaded by ``MultiTask``.

    benchmarks/peers/setup.sh
    python benchmarks/memory.py --threads 2
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch

import polytask as pt
from contenders import Contender, environments, memory, results_folder, write_csv
from polytask.adapters.adapter import Adapter
from polytask.adapters.module import LoadedAdapter
from polytask.backbones.backbone import Backbone
from polytask.methods import Houlsby
from train_speed import FIELD, entered
from work import TEXTS, model_folder, rows_of, write_work

FIRST_ANSWER = """
import sys, polytask as pt
tasks = pt.MultiTask(pt.load_backbone(sys.argv[1], device=sys.argv[3]), pt.Store(sys.argv[2]))
print(tasks.predict(["a text to answer"], task="task0")[0].label)
"""
MIB = 1 << 20


def of_training(args: argparse.Namespace, scratch: Path) -> Iterator[dict[str, Any]]:
    """One CSV row per contender: its memory when loaded and at its peak."""
    folder = model_folder(args.model, scratch)
    path = scratch / "work.json"
    texts = TEXTS[args.texts]
    write_work(
        path, rows_of(texts, args.batches * args.batch_size, args.data, folder), texts.num_labels, args.batch_size
    )
    shared = {"model": str(folder), "work": str(path), "threads": args.threads, "device": args.device}
    pythons = environments(args.peers)
    for entry in itertools.chain.from_iterable(FIELD.values()):
        yield {"model": args.model, "texts": args.texts, **peak(*entered([entry], pythons, shared), args.batches)}


def peak(contender: Contender, num_batches: int) -> dict[str, Any]:
    """The peak of two passes over the batches; optimizers and caches exist in the second."""
    try:
        loaded = contender.ask({"memory": True})
        for _ in range(2):
            contender.ask({"run": list(range(num_batches))})
        after = contender.ask({"memory": True})
    finally:
        contender.close()
    settings = contender.settings
    return {
        "method": settings["method"],
        "library": settings["library"],
        "setting": settings["setting"],
        "loaded_mib": round(loaded["now_bytes"] / MIB),
        "peak_mib": round(after["peak_bytes"] / MIB),
        "training_mib": round((after["peak_bytes"] - loaded["now_bytes"]) / MIB),
    }


def of_adapters(args: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """One CSV row: memory over the size of the files, the time to load and to switch, a cold start."""
    folder = model_folder(args.model, scratch)
    backbone, store = pt.load_backbone(folder, device=args.device), pt.Store(scratch / "adapters")
    file_bytes = sum(filled(backbone, store, f"task{task}") for task in range(args.adapters))
    tasks = pt.MultiTask(backbone, store)
    names = [f"task{task}" for task in range(args.adapters)]
    tasks.predict(["warm"], task=names[0])
    tasks.unload(names[0])
    before, start = memory()["now_bytes"], time.perf_counter()
    for name in names:
        tasks.load(name)
    load_s, taken = time.perf_counter() - start, memory()["now_bytes"] - before
    asked = [names[(7 * at) % args.adapters] for at in range(1, args.switches + 1)]
    switched, same = zip(*((answer_s(tasks, name), answer_s(tasks, name)) for name in asked), strict=True)
    cold = [cold_start_s(folder, scratch / "adapters", args) for _ in range(3)]
    return {
        "model": args.model,
        "adapters": args.adapters,
        "file_kib": round(file_bytes / args.adapters / 1024),
        "memory_kib_an_adapter": round(taken / args.adapters / 1024),
        "memory_over_file": round(taken / file_bytes, 3),
        "load_ms_an_adapter": round(1e3 * load_s / args.adapters, 2),
        "answer_ms_same_adapter": round(1e3 * median(same), 2),
        "answer_ms_other_adapter": round(1e3 * median(switched), 2),
        "switch_ms": round(1e3 * (median(switched) - median(same)), 2),
        "cold_start_s": round(median(cold), 2),
    }


def filled(backbone: Backbone, store: pt.Store, task: str) -> int:
    """Put an untrained adapter into the store; the size of its file."""
    method, labels = Houlsby(64), ("no", "yes")
    tensors = LoadedAdapter(backbone, method, "classification", labels, key=(task,)).tensors()
    about = {"method": method, "backbone": backbone, "metric": "accuracy", "score": 0.5, "recipe": {"max_length": 128}}
    adapter = Adapter.create(tensors, task=task, kind="classification", labels=labels, **about)
    return store.put(adapter).size_bytes


def answer_s(tasks: pt.MultiTask, task: str) -> float:
    """Seconds to answer one short text."""
    start = time.perf_counter()
    tasks.predict(["a text to answer"], task=task)
    return time.perf_counter() - start


def cold_start_s(model: Path, store: Path, args: argparse.Namespace) -> float:
    """Seconds from the start of a Python process to its end, with one answer in between."""
    command = [sys.executable, "-c", FIRST_ANSWER, str(model), str(store), args.device]
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    return time.perf_counter() - start


def main() -> None:
    """Measure and write ``memory.csv`` and ``adapters.csv``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--texts", choices=TEXTS, default="newsgroups")
    parser.add_argument("--data", type=Path, help="the folder with glue/ and text17/; else synthetic rows")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--batches", type=int, default=16)
    parser.add_argument("--adapters", type=int, default=1000)
    parser.add_argument("--switches", type=int, default=50)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", choices=("training", "adapters"))
    parser.add_argument("--peers", type=Path, default=Path(".venv-peers"))
    parser.add_argument("--out", type=Path, default=Path("results/speed"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    out = results_folder(args.out, args.device, args.threads)
    with tempfile.TemporaryDirectory() as scratch:
        if args.only != "adapters":
            write_csv(out / "memory.csv", of_training(args, Path(scratch)))
        if args.only != "training":
            write_csv(out / "adapters.csv", [of_adapters(args, Path(scratch))])


if __name__ == "__main__":
    main()
