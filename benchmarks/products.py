"""Compares an ordinary bf16 product with one whose weight is prepacked (``fast.kernels.PrepackedLinear``).

``M`` is rows times tokens; ``K`` to ``N`` are a layer's three products. Twelve weights take turns, so that a weight is
in the caches no more than in training. CPU only.

    python benchmarks/products.py --threads 2
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from contenders import results_folder, write_csv
from polytask.backbones.fast.kernels import HAS_PREPACKED, mkldnn
from polytask.bench.interleave import alternated

SHAPES = {"minilm": ((384, 384), (384, 1536), (1536, 384)), "bert-base": ((768, 768), (768, 3072), (3072, 768))}
ROWS = (128, 256, 512, 1024, 2048)
NUM_WEIGHTS = 12


def passes(product: Callable[[Tensor, Tensor, Tensor], Tensor], x: Tensor, weights: list[Tensor], bias: Tensor) -> None:
    """One product with each weight."""
    for weight in weights:
        product(x, weight, bias)


def ordinary(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.addmm(bias, x, weight.t())


def packed(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    out: Tensor = mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return out


def measured(model: str, width_in: int, width_out: int, threads: int, rounds: int) -> Iterator[dict[str, Any]]:
    """One CSV row for each ``M``."""
    torch.set_num_threads(threads)
    draw = torch.Generator().manual_seed(0)
    weights = [torch.randn(width_out, width_in, generator=draw).bfloat16() for _ in range(NUM_WEIGHTS)]
    laid_out = [mkldnn._reorder_linear_weight(weight) for weight in weights]
    bias = torch.randn(width_out, generator=draw).bfloat16()
    for num_rows in ROWS:
        x = torch.randn(num_rows, width_in, generator=draw).bfloat16()
        torch.testing.assert_close(packed(x, laid_out[0], bias), ordinary(x, weights[0], bias), rtol=0.02, atol=0.5)
        ways: dict[str, Callable[[], object]] = {
            "ordinary": partial(passes, ordinary, x, weights, bias),
            "packed": partial(passes, packed, x, laid_out, bias),
        }
        seconds = {name: taken / NUM_WEIGHTS for name, taken in alternated(ways, rounds).items()}
        operations = 2 * num_rows * width_in * width_out
        yield {
            "model": model,
            "threads": threads,
            "M": num_rows,
            "K": width_in,
            "N": width_out,
            **{f"{name}_us": round(1e6 * taken, 1) for name, taken in seconds.items()},
            **{f"{name}_gflops": round(operations / taken / 1e9) for name, taken in seconds.items()},
            "packed_is": round(seconds["ordinary"] / seconds["packed"], 2),
        }


def main() -> None:
    """Measure and write ``products.csv``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="from 1 to this many")
    parser.add_argument("--out", type=Path, default=Path("results/speed"))
    args = parser.parse_args()
    if not HAS_PREPACKED:
        raise SystemExit("this torch has no such layout: its build lacks oneDNN")
    rows = [
        row
        for threads in range(1, args.threads + 1)
        for model, shapes in SHAPES.items()
        for width_in, width_out in shapes
        for row in measured(model, width_in, width_out, threads, args.rounds)
    ]
    write_csv(results_folder(args.out, "cpu", args.threads) / "products.csv", rows)


if __name__ == "__main__":
    main()
