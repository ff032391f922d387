"""Compares looped with grouped application: milliseconds of one site with K adapters of n rows of T tokens.

Forward, or forward and backward.

``even``: every adapter has equally many rows, side by side. ``uneven``: one has a row more.

    python benchmarks/routing.py
"""

from __future__ import annotations

import argparse
import csv
import itertools
import sys
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor, nn

from polytask.dropout import KeyedDropoutSource
from polytask.methods.bottleneck import SerialBottleneck
from polytask.methods.delta import Delta
from polytask.methods.scaling import TunedNorm
from polytask.routing.apply import apply_deltas
from polytask.routing.route import Mode, Route
from polytask.routing.stacking import StackCache

WIDTH = 384
SHAPES = ((8, 4, 16), (8, 32, 16), (8, 32, 64), (26, 1, 16), (26, 1, 64), (26, 4, 16))
KINDS: dict[str, Callable[[], Delta]] = {
    "norm": lambda: TunedNorm(WIDTH),
    "bottleneck-64": lambda: SerialBottleneck(WIDTH, WIDTH, 64, "gelu", 1e-2),
}


def milliseconds(run: Callable[[], object], repeats: int) -> float:
    """The median of some runs, without the first."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - start))
    return median(times[1:])


def site_milliseconds(mode: Mode, deltas: dict[str, Delta], names: list[str], x: Tensor, repeats: int) -> float:
    """One site's time, with its backward pass where ``x`` asks for gradients."""
    base, dropout_source, stacks = nn.LayerNorm(WIDTH, dtype=x.dtype), KeyedDropoutSource(), StackCache()

    def run() -> None:
        with torch.set_grad_enabled(x.requires_grad):
            out = apply_deltas(Route.of(names), deltas, x, x, base, dropout_source, "site", mode, stacks)
        if x.requires_grad:
            out.sum().backward()

    return milliseconds(run, repeats)


def main() -> None:
    """Write one CSV row for each kind, shape, evenness and direction."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--dtype", default="bfloat16")
    args = parser.parse_args()
    writer = csv.writer(sys.stdout)
    writer.writerow(
        ["kind", "adapters", "rows_each", "tokens", "rows", "backward", "looped_ms", "grouped_ms", "auto_ms"]
    )
    for (kind, make), shape in itertools.product(KINDS.items(), SHAPES):
        num_adapters, rows_each, tokens = shape
        for extra, backward in itertools.product((0, 1), (False, True)):
            deltas = {f"a{k:02}": make() for k in range(num_adapters)}
            for delta in deltas.values():
                delta.start(nn.LayerNorm(WIDTH), torch.Generator())
                delta.requires_grad_(backward)
            names = ["a00"] * extra + [name for name in deltas for _ in range(rows_each)]
            x = torch.randn(len(names), tokens, WIDTH, dtype=getattr(torch, args.dtype), requires_grad=backward)
            modes: tuple[Mode, ...] = ("looped", "grouped", "auto")
            times = [site_milliseconds(mode, deltas, names, x, args.repeats) for mode in modes]
            evenness = "uneven" if extra else "even"
            writer.writerow([kind, *shape, evenness, backward, *(f"{t:.2f}" for t in times)])


if __name__ == "__main__":
    main()
