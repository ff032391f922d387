"""Training beside other work: alone, beside one busy process, and two trainings at once.

What matters is how OpenMP's waiting threads wait (``polytask.threads``): ``polytask`` is what a user gets, ``default``
is libgomp's own (a user's program that imports torch first), ``passive`` never spins. Each training is a process of its
own, 900 movie-review sentences, Houlsby-64 on MiniLM, two epochs; seconds are those of training, without loading. The
ways alternate; the median of the rounds counts. Two at once count by the one that ends last.

    python benchmarks/beside.py [--rounds 3] [--spin 1000,2000,5000]
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
import time, warnings
import polytask as pt
from polytask.demo.corpora import CORPORA, Sizes, read_corpus
warnings.simplefilter("ignore")
task = read_corpus(CORPORA[2], Sizes(900, 100, 10))
backbone = pt.load_backbone("minilm", device="cpu", dtype="bfloat16")
print("ready", flush=True)
input()
start = time.perf_counter()
pt.train(backbone, task, pt.Recipe(pt.Houlsby(64), epochs=2, max_length=64))
print(time.perf_counter() - start)
"""
BUSY = "while True: pass"


@contextmanager
def running(code: str, number: int, settings: Mapping[str, str]) -> Iterator[list[subprocess.Popen[str]]]:
    """So many processes of this code, ended at the latest with the block."""
    own = {name: value for name, value in os.environ.items() if name not in SETTINGS} | dict(settings)
    command, pipe = [sys.executable, "-c", code], subprocess.PIPE
    processes = [
        subprocess.Popen(command, env=own, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
        for _ in range(number)
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def training_seconds(settings: Mapping[str, str], number: int, num_busy: int) -> float:
    """The seconds until the last of so many trainings at once ends, beside so many busy processes."""
    with running(TRAINING, number, settings) as trainings:
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


def main() -> None:
    """Measure and write ``beside.csv``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--spin", default="", help="further spin counts to try, separated by commas")
    parser.add_argument("--out", type=Path, default=Path("results/speed"))
    args = parser.parse_args()
    ways = WAYS | {f"spin {count}": {"GOMP_SPINCOUNT": count} for count in args.spin.split(",") if count}
    layouts = {"alone": (1, 0), "beside_busy": (1, 1), "two_at_once": (2, 0)}
    seconds: dict[tuple[str, str], list[float]] = {(way, layout): [] for way in ways for layout in layouts}
    for number in range(args.rounds):
        for layout, (trainings, busy) in layouts.items():
            for way in [*ways][number % len(ways) :] + [*ways][: number % len(ways)]:
                seconds[way, layout].append(training_seconds(ways[way], trainings, busy))
                print(f"{layout:12} {way:10} {seconds[way, layout][-1]:6.1f} s", flush=True)
    rows: list[dict[str, Any]] = []
    for way in ways:
        median = {layout: statistics.median(seconds[way, layout]) for layout in layouts}
        rows.append(
            {
                "way": way,
                **{f"{layout}_s": f"{median[layout]:.2f}" for layout in layouts},
                **{f"{layout}_spread_s": _spread(seconds[way, layout]) for layout in layouts},
                "two_over_one_after_the_other": f"{median['two_at_once'] / (2 * median['alone']):.2f}",
                "share_of_speed_beside_busy": f"{median['alone'] / median['beside_busy']:.2f}",
                "versions": " ".join(f"{package}={number}" for package, number in versions().items()),
            }
        )
    write_csv(results_folder(args.out, "cpu", os.cpu_count() or 1) / "beside.csv", rows)


def _spread(values: list[float]) -> str:
    return f"{min(values):.2f} to {max(values):.2f}"


if __name__ == "__main__":
    main()
