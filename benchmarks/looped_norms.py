"""LayerNorms of a mixed batch: one adapter after another, or several stacked into one formula.

On a CPU, torch's bf16 LayerNorm takes fp32 gains, but only one set. ``stacked`` is what ``polytask.routing`` does for
adapters with few tokens: torch's kernel computes mean and deviation, and one formula applies the gains of all adapters.
Both give the same bits. Houlsby-64; both alternate over the same texts.

    python benchmarks/looped_norms.py --threads 2
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from contenders import results_folder, versions, write_csv
from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.bench.answering import answer_batches, answering_functions
from polytask.bench.interleave import alternated
from polytask.bench.workload import TEXTS, as_work, synthetic
from polytask.methods import Houlsby
from polytask.routing import route


def limited(most_units: int, run: Callable[[], object]) -> None:
    """Run with LayerNorms stacked for adapters with at most so many tokens on average."""
    before, route.MAX_STACKED_UNITS = route.MAX_STACKED_UNITS, most_units
    try:
        run()
    finally:
        route.MAX_STACKED_UNITS = before


def row_of(backbone: Backbone, num_tasks: int, rows_each: int, args: argparse.Namespace) -> dict[str, Any]:
    """One CSV row."""
    texts = TEXTS[args.texts]
    size = num_tasks * rows_each
    work = as_work(synthetic(texts.lengths(args.batches * size)), texts.num_labels, size)
    with answering_functions(backbone, work, Houlsby(64), num_tasks, rows_each) as answers:
        run = partial(answer_batches, answers["mixed"], work["orders"]["shuffled"])
        ways = {"looped": partial(limited, 0, run), "stacked": run}
        seconds = alternated(ways, args.rounds)
    looped_ms, stacked_ms = (1e3 * seconds[way] / args.batches for way in ("looped", "stacked"))
    return {
        "texts": args.texts,
        "dtype": str(backbone.dtype).removeprefix("torch."),
        "tasks": num_tasks,
        "rows_each": rows_each,
        "looped_ms": f"{looped_ms:.1f}",
        "stacked_ms": f"{stacked_ms:.1f}",
        "looped_over_stacked": f"{looped_ms / stacked_ms:.2f}",
        "rounds": args.rounds,
        "versions": " ".join(f"{package}={number}" for package, number in versions().items()),
    }


def main() -> None:
    """Measure and write ``looped-norms.csv``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", choices=TEXTS, default="sst2")
    parser.add_argument("--shapes", default="26x1,26x4,200x1", help="tasks x texts of each")
    parser.add_argument("--batches", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path("results/speed"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    backbone = load_backbone("minilm", device="cpu", dtype="bfloat16")
    shapes = [[int(number) for number in shape.split("x")] for shape in args.shapes.split(",")]
    rows = [row_of(backbone, num_tasks, rows_each, args) for num_tasks, rows_each in shapes]
    write_csv(results_folder(args.out, "cpu", args.threads) / "looped-norms.csv", rows)


if __name__ == "__main__":
    main()
