"""Training beside other work: alone, beside one busy process, and two trainings at once.

What matters is how OpenMP's waiting threads wait (``polytask.threads``): ``polytask`` is what a user gets, ``default``
is libgomp's own (a user's program that imports torch first), ``passive`` never spins. Each training is a process of its
own, on ``--rows`` movie-review sentences, Houlsby-64 on MiniLM, two epochs; seconds are those of training, without
loading. The ways alternate; the median of the rounds counts. Two at once count by the one that ends last.

    python benchmarks/beside.py [--rounds 3] [--spin 1000,2000,5000] [--layouts alone] [--rows 450]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from contenders import results_folder, versions, write_csv

WAYS: dict[str, dict[str, str]] = {
    "polytask": {},
    "default": {"GOMP_SPINCOUNT": "300000"},
    "passive": {"OMP_WAIT_POLICY": "passive"},
}
SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS")
TRAINING = """
import sys, time, warnings
import polytask as pt
from polytask.demo.corpora import CORPORA, Sizes, read_corpus
warnings.simplefilter("ignore")
task = read_corpus(CORPORA[2], Sizes(int(sys.argv[1]), 100, 10))
backbone = pt.load_backbone("minilm", device="cpu", dtype="bfloat16")
print("ready", flush=True)
input()
start = time.perf_counter()
pt.train(backbone, task, pt.Recipe(pt.Houlsby(64), epochs=2, max_length=64))
print(time.perf_counter() - start)
"""
BUSY = "while True: pass"
LAYOUTS = {"alone": (1, 0), "beside_busy": (1, 1), "two_at_once": (2, 0)}
"""The numbers of trainings and of busy processes."""


@contextmanager
def running(
    code: str, number: int, settings: Mapping[str, str], *arguments: str
) -> Iterator[list[subprocess.Popen[str]]]:
    """So many processes of this code, ended at the latest with the block."""
    own = {name: value for name, value in os.environ.items() if name not in SETTINGS} | dict(settings)
    command, pipe = [sys.executable, "-c", code, *arguments], subprocess.PIPE
    processes = [subprocess.Popen(command, env=own, stdin=pipe, stdout=pipe, text=True) for _ in range(number)]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def training_seconds(settings: Mapping[str, str], rows: int, number: int, num_busy: int) -> float:
    """The seconds until the last of so many trainings at once ends, beside so many busy processes."""
    with running(TRAINING, number, settings, str(rows)) as trainings:
        for process in trainings:
            assert process.stdout is not None
            process.stdout.readline()
        with running(BUSY, num_busy, {}):
            time.sleep(0.5)
            for process in trainings:
                assert process.stdin is not None
                process.stdin.write("\n")
                process.stdin.flush()
            return max(float(process.stdout.read()) for process in trainings if process.stdout is not None)


def summary(way: str, seconds: Mapping[str, list[float]]) -> dict[str, Any]:
    """The CSV row of a way: medians, spreads and ratios; what was not measured is empty."""
    median = {layout: statistics.median(taken) for layout, taken in seconds.items() if taken}
    alone, busy, two = (median.get(layout, float("nan")) for layout in LAYOUTS)
    return {
        "way": way,
        **{f"{layout}_s": f"{median[layout]:.2f}" if layout in median else "" for layout in LAYOUTS},
        **{f"{layout}_spread_s": _spread(seconds[layout]) for layout in LAYOUTS},
        "two_over_one_after_the_other": f"{two / (2 * alone):.2f}" if two == two else "",
        "share_of_speed_beside_busy": f"{alone / busy:.2f}" if busy == busy else "",
        "versions": " ".join(f"{package}={number}" for package, number in versions().items()),
    }


def main() -> None:
    """Measure and write ``beside.csv``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=900)
    parser.add_argument("--layouts", default=",".join(LAYOUTS))
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--spin", default="", help="further spin counts to try, separated by commas")
    parser.add_argument("--out", type=Path, default=Path("results/speed"))
    args = parser.parse_args()
    ways = {way: WAYS[way] for way in args.ways.split(",") if way}
    ways |= {f"spin {count}": {"GOMP_SPINCOUNT": count} for count in args.spin.split(",") if count}
    seconds: dict[str, dict[str, list[float]]] = {way: {layout: [] for layout in LAYOUTS} for way in ways}
    for number in range(args.rounds):
        for layout in args.layouts.split(","):
            for way in [*ways][number % len(ways) :] + [*ways][: number % len(ways)]:
                seconds[way][layout].append(training_seconds(ways[way], args.rows, *LAYOUTS[layout]))
                print(f"{layout:12} {way:10} {seconds[way][layout][-1]:6.2f} s", flush=True)
    rows = [summary(way, seconds[way]) for way in ways]
    write_csv(results_folder(args.out, "cpu", os.cpu_count() or 1) / "beside.csv", rows)


def _spread(values: list[float]) -> str:
    return f"{min(values):.2f} to {max(values):.2f}" if values else ""


if __name__ == "__main__":
    main()
