"""Measures what the sizes in ``polytask.packing`` are chosen by: softmax by row length, and products of a new size.

``softmax`` of ``[312, T, T]`` bf16 scores (26 texts, 12 heads), ns a number: what a row has over a multiple of 16 is
done one by one. ``products``: a weight of 384 by 1,536, µs the first time that so many rows come and later, medians
over many row counts: the first time the library makes a program for that size. CPU only.

    python benchmarks/sizes.py --threads 2
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor

from contenders import of_operations, results_folder, write_csv
from polytask.bench.interleave import alternated
from polytask.packing import grid_width

LENGTHS = (8, 16, 18, 20, 24, 28, 32, 36, 40, 48, 52, 56, 60, 64, 72, 80, 96, 112, 120, 128)
NUM_HEADS = 312
WIDTHS = (384, 1536)


def of_softmax(rounds: int) -> list[dict[str, Any]]:
    """One CSV row per length; all lengths take turns."""
    scores = {length: torch.randn(NUM_HEADS, length, length).bfloat16() for length in LENGTHS}
    runs: dict[int, Callable[[], object]] = {length: partial(torch.softmax, x, -1) for length, x in scores.items()}
    seconds = alternated(runs, rounds)
    return [
        {
            "tokens": length,
            "softmax_ms": round(1e3 * taken, 3),
            "ns_a_number": round(1e9 * taken / scores[length].numel(), 3),
            "grid": grid_width(length),
        }
        for length, taken in seconds.items()
    ]


def of_products(rounds: int) -> list[dict[str, Any]]:
    """One CSV row for the product forward and one for that of the gradient."""
    weight = torch.randn(WIDTHS[1], WIDTHS[0]).bfloat16()
    counts = random.Random(0).sample(range(300, 600), rounds)
    kinds: dict[str, tuple[int, Callable[[Tensor], Tensor]]] = {
        "forward": (WIDTHS[0], lambda x: x @ weight.t()),
        "backward": (WIDTHS[1], lambda x: x @ weight),
    }
    rows = []
    for kind, (width, product) in kinds.items():
        inputs = [torch.randn(count, width).bfloat16() for count in counts]
        first, later = ([timed(partial(product, x)) for x in inputs] for _ in range(2))
        us = {"first_us": round(1e6 * median(first)), "later_us": round(1e6 * median(later))}
        rows.append({"product": kind, **us, "first_over_later": round(median(first) / median(later), 1)})
    return rows


def timed(run: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    """Measure and write ``softmax.csv`` and ``new-sizes.csv``."""
    args = of_operations(__doc__, 41, torch.get_num_threads())
    torch.set_num_threads(args.threads)
    folder = results_folder(args.out, "cpu", args.threads)
    write_csv(folder / "softmax.csv", of_softmax(args.rounds))
    write_csv(folder / "new-sizes.csv", of_products(args.rounds))


if __name__ == "__main__":
    main()
