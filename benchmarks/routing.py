"""Looped or grouped? Milliseconds of one site with K adapters of n rows of T tokens, forward, or forward and backward.

``even``: every adapter has equally many rows, side by side. ``uneven``: one has a row more.

    python benchmarks/routing.py
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import nn

from polytask.methods.bottleneck import SerialBottleneck
from polytask.methods.scaling import TunedNorm
from polytask.methods.seam import Delta
from polytask.noise import Noise
from polytask.routing import Mode, Route, apply

WIDTH = 384
SHAPES = ((8, 4, 16), (8, 32, 16), (8, 32, 64), (26, 1, 16), (26, 1, 64), (26, 4, 16))
KINDS: dict[str, Callable[[], Delta]] = {
    "norm": lambda: TunedNorm(WIDTH),
    "bottleneck-64": lambda: SerialBottleneck(WIDTH, WIDTH, 64, "gelu", 1e-2),
}


def milliseconds(run: Callable[[], object], repeats: int) -> float:
    """The median of some runs after one that does not count."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - start))
    return median(times[1:])


def main() -> None:
    """Write one CSV row for each kind, shape, evenness and direction."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--dtype", default="bfloat16")
    repeats, dtype = (args := parser.parse_args()).repeats, getattr(torch, args.dtype)
    base, noise = nn.LayerNorm(WIDTH, dtype=dtype), Noise()
    writer = csv.writer(sys.stdout)
    writer.writerow(["kind", "adapters", "rows_each", "tokens", "rows", "backward", "looped_ms", "grouped_ms", "auto_ms"])
    for kind, make in KINDS.items():
        for num_adapters, rows_each, tokens in SHAPES:
            deltas = {f"a{k:02}": make() for k in range(num_adapters)}
            for delta in deltas.values():
                delta.start(base, torch.Generator())
            for evenness, extra in (("even", 0), ("uneven", 1)):
                names = ["a00"] * extra + [name for name in deltas for _ in range(rows_each)]
                for backward in (False, True):
                    x = torch.randn(len(names), tokens, WIDTH, dtype=dtype, requires_grad=backward)

                    def run(mode: Mode) -> None:
                        with torch.set_grad_enabled(backward):
                            out = apply(Route.of(names), deltas, x, x, base, noise, "site", mode)
                        if backward:
                            out.sum().backward()

                    times = [milliseconds(lambda m=mode: run(m), repeats) for mode in ("looped", "grouped", "auto")]
                    shape = [kind, num_adapters, rows_each, tokens, evenness, backward]
                    writer.writerow([*shape, *(f"{t:.2f}" for t in times)])


if __name__ == "__main__":
    main()
