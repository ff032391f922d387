"""Batches whose tasks change: most of the loaded tasks in each batch, others each time, beside the same ones each time.

Houlsby-64 on MiniLM, texts as short as SST-2's. ``one`` is one adapter for the same texts. The ways alternate.

    python benchmarks/changing_tasks.py --threads 2
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch

from contenders import results_folder, versions, write_csv
from polytask.adapters.attach import Attached
from polytask.adapters.module import LoadedAdapter
from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.bench.interleave import Run, alternated
from polytask.bench.workload import TEXTS, as_work, synthetic
from polytask.data.encoding import Encoded
from polytask.inference.scoring import scores_of
from polytask.memory import keep_freed_memory
from polytask.methods import Houlsby


@contextmanager
def loaded(backbone: Backbone, count: int) -> Iterator[tuple[Attached, dict[str, LoadedAdapter]]]:
    """So many adapters on a backbone."""
    attached, adapters = Attached.of(backbone), {}
    for number in range(count):
        name = f"task{number:03}"
        adapter = LoadedAdapter(backbone, Houlsby(64), "classification", ("no", "yes"), key=(0, name))
        adapters[name] = adapter.frozen(backbone.dtype)
        attached.add(name, adapters[name].deltas)
    yield attached, adapters


def ways(
    backbone: Backbone, args: argparse.Namespace, loaded: tuple[Attached, dict[str, LoadedAdapter]]
) -> dict[str, Run]:
    """What answers all batches with changing tasks, with the same tasks, and with one."""
    attached, adapters = loaded
    size = args.tasks * args.rows_each
    work = as_work(synthetic(TEXTS["sst2"].lengths(args.batches * size)), 2, size)
    everything, batches = Encoded(work["ids"], work["types"], 0), work["orders"]["shuffled"]
    draw, names = random.Random(0), sorted(adapters)
    chosen = {
        "changing": [sorted(draw.sample(names, args.tasks)) for _ in batches],
        "same": [names[: args.tasks]] * len(batches),
        "one": [names[:1] * args.tasks] * len(batches),
    }

    def answer(tasks: Sequence[Sequence[str]]) -> None:
        for rows, own in zip(batches, tasks, strict=True):
            of_rows = [name for name in own for _ in range(args.rows_each)]
            scores_of(backbone, attached, adapters, everything.take(rows), of_rows, batch_tokens=1 << 20)

    return {way: partial(answer, tasks) for way, tasks in chosen.items()}


def main() -> None:
    """Measure and write ``changing-tasks.csv``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loaded", type=int, default=26, help="loaded tasks")
    parser.add_argument("--tasks", type=int, default=22, help="tasks in a batch")
    parser.add_argument("--rows-each", type=int, default=1)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path("results/speed"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    backbone = load_backbone("minilm", device="cpu", dtype=args.dtype)
    with keep_freed_memory(), loaded(backbone, args.loaded) as adapters:
        seconds = alternated(ways(backbone, args, adapters), args.rounds)
    about = {"loaded": args.loaded, "tasks": args.tasks, "rows_each": args.rows_each, "dtype": backbone.precision}
    rows = [
        {
            **about,
            "tasks_are": way,
            "ms_a_batch": f"{1e3 * taken / args.batches:.1f}",
            "one_over_this": f"{seconds['one'] / taken:.2f}",
            "rounds": args.rounds,
            "versions": " ".join(f"{package}={number}" for package, number in versions().items()),
        }
        for way, taken in seconds.items()
    ]
    write_csv(results_folder(args.out, "cpu", args.threads) / "changing-tasks.csv", rows)


if __name__ == "__main__":
    main()
