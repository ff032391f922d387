"""Measures the cost of answering 26 tasks in one batch: ours, BatchSplit of adapters, mixed batches of peft.

The rows and their lengths are the same for all: ``rows_each`` of each task, side by side, as BatchSplit needs them. All
adapters have a head. For comparison: the backbone without heads, one adapter for all rows, one forward pass per task.

    benchmarks/peers/setup.sh
    python benchmarks/mixed_inference.py --threads 2 [--data DIR]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from contenders import Contender, environments, interleaved, results_folder, write_csv
from polytask.bench.reference_loop import Work
from work import MODELS, TEXTS, model_folder, num_tokens, rows_of, write_work

OURS = {"library": "polytask", "module": "peers.with_polytask", "precision": "auto", "setting": "default"}
DEFAULT = {"setting": "default", "precision": "float32"}
BEST = {"setting": "autocast", "precision": "autocast"}
ADAPTERS = {"library": "adapters", "module": "peers.with_adapters", "method": "houlsby"}
PEFT = {"library": "peft", "module": "peers.with_peft", "method": "lora"}

FIELD: list[dict[str, Any]] = [
    *({**OURS, "method": "houlsby", "route": route} for route in ("mixed", "one", "apart", "bare")),
    *({**ADAPTERS, **setting, "route": "mixed"} for setting in (DEFAULT, BEST)),
    *({**ADAPTERS, **BEST, "route": route} for route in ("one", "apart")),
    *({**OURS, "method": "lora", "route": route} for route in ("mixed", "one")),
    *({**PEFT, **setting, "route": "mixed"} for setting in (DEFAULT, BEST)),
    {**PEFT, **BEST, "route": "apart"},
]
ROUTES = {
    "mixed": "all tasks in one batch",
    "one": "one adapter for all rows",
    "apart": "one forward pass a task",
    "bare": "the backbone alone",
}


def measured(model: str, texts: str, rows_each: int, args: argparse.Namespace) -> list[dict[str, Any]]:
    """One CSV row a contender, for one model, one kind of text and so many rows of each task."""
    pythons = environments(args.peers)
    size = args.tasks * rows_each
    with tempfile.TemporaryDirectory() as scratch:
        folder = model_folder(model, Path(scratch))
        encoded = rows_of(TEXTS[texts], args.batches * size, args.data, folder)
        path = Path(scratch) / "work.json"
        work = write_work(path, encoded, TEXTS[texts].num_labels, size)
        shared = {"model": str(folder), "work": str(path), "work_kind": "answer", "order": "shuffled"}
        shared |= {"num_tasks": args.tasks, "rows_each": rows_each, "threads": args.threads, "device": args.device}
        contenders = []
        for entry in FIELD:
            name = f"{entry['library']} {entry['method']}, {entry['setting']}, {entry['route']}"
            contenders.append(Contender(name, pythons[entry["library"]], entry["module"], {**shared, **entry}).wait())
        try:
            seconds = interleaved(contenders, range(args.batches), args.rounds)
        finally:
            for contender in contenders:
                contender.close()
    about = {"model": model, "texts": texts, "tasks": args.tasks, "rows_each": rows_each}
    return [{**about, **row} for row in compared(contenders, seconds, work)]


def compared(contenders: list[Contender], seconds: Mapping[str, list[float]], work: Work) -> Iterator[dict[str, Any]]:
    """Rates of all contenders, and that of our mixed batch with the same method over each."""
    tokens, _ = num_tokens(work, "shuffled")
    batches = len(work["orders"]["shuffled"])
    total = {name: sum(taken) for name, taken in seconds.items()}
    mixed = [one for one in contenders if (one.settings["library"], one.settings["route"]) == ("polytask", "mixed")]
    ours = {one.settings["method"]: total[one.name] for one in mixed}
    for one in contenders:
        settings, taken = one.settings, total[one.name]
        yield {
            "method": settings["method"],
            "library": settings["library"],
            "setting": settings["setting"],
            "route": ROUTES[settings["route"]],
            "ms_a_batch": round(1e3 * taken / batches, 1),
            "texts_per_s": round(len(work["ids"]) / taken),
            "tokens_per_s": round(tokens / taken),
            "ours_mixed_over_this": round(taken / ours[settings["method"]], 2),
            "versions": " ".join(f"{package}={number}" for package, number in one.facts["versions"].items()),
        }


def main() -> None:
    """Measure and write ``mixed.csv``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=lambda names: names.split(","), default=list(MODELS))
    parser.add_argument("--texts", type=lambda names: names.split(","), default=list(TEXTS))
    parser.add_argument("--rows-each", type=lambda counts: [int(n) for n in counts.split(",")], default=[1, 4])
    parser.add_argument("--tasks", type=int, default=26)
    parser.add_argument(
        "--data", type=Path, help="the folder with glue/ and text17/; else synthetic rows of like lengths"
    )
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true", help="MiniLM, one row a task")
    parser.add_argument("--peers", type=Path, default=Path(".venv-peers"))
    parser.add_argument("--out", type=Path, default=Path("results/speed"))
    args = parser.parse_args()
    if args.quick:
        args.models, args.rows_each = ["minilm"], [1]
    rows = [
        row
        for model in args.models
        for texts in args.texts
        for rows_each in args.rows_each
        for row in measured(model, texts, rows_each, args)
    ]
    write_csv(results_folder(args.out, args.device, args.threads) / "mixed.csv", rows)


if __name__ == "__main__":
    main()
