"""Measures the memory of a server under requests that differ in the number and length of their texts.

    python benchmarks/serving_memory.py [--minutes 10] [--dtype auto] [--threads 2] [--set NAME=VALUE …]

Each request has 1 to 64 random texts of 1 to 60 words for one of 26 tasks, four clients send them, and the resident
memory is read every 15 seconds. ``serving-memory.csv`` has one series for each setting; one that is there already is
not measured again. Memory depends on the requests, not on the time, so the machine need not be idle. ``--set`` sets
environment variables of the server.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polytask as pt
from contenders import results_folder, versions, write_csv
from serving import classify
from serving_load import Request, closed_loop
from serving_systems import polytask, store_of, text_of

NUM_TASKS, CLIENTS, EVERY_S = 26, 4, 15.0
MAX_TEXTS, MAX_WORDS = 64, 60


def varied_requests(url: str, number: int) -> list[Request]:
    """Requests of random sizes, the same in every run."""
    draw = random.Random(0)

    def one() -> Request:
        texts = [text_of(draw.randint(1, MAX_WORDS)) for _ in range(draw.randint(1, MAX_TEXTS))]
        return classify(url, texts, f"t{draw.randrange(NUM_TASKS)}")

    return [one() for _ in range(number)]


def anonymous_mb(pid: int) -> float:
    """Memory of a process that no file backs."""
    found = re.search(r"^Anonymous:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)
    assert found is not None, "every kernel since 4.14 reports it"
    return round(int(found[1]) / 1024, 1)


def series(
    backbone: str, dtype: str, threads: int, minutes: float, environment: dict[str, str]
) -> Iterator[dict[str, Any]]:
    """The memory of one server over time."""
    os.environ.update(environment)
    with tempfile.TemporaryDirectory() as folder:
        frozen = pt.load_backbone(backbone, device="cpu")
        store = store_of(Path(folder) / "store", frozen, pt.Houlsby(64), NUM_TASKS)
        del frozen
        with polytask(backbone, [store], threads, "--dtype", dtype) as (system,):
            requests = varied_requests(system.url, 5000)
            answered = 0
            start = time.monotonic()
            while True:
                row = {"requests": answered, "seconds": round(time.monotonic() - start, 1)}
                yield {**row, "memory_mb": system.memory_mb, "anonymous_mb": anonymous_mb(system.process.pid)}
                if time.monotonic() - start > 60 * minutes:
                    return
                load = closed_loop(requests[answered % len(requests) :] + requests, CLIENTS, EVERY_S)
                answered += load.statuses[200]


def main() -> None:
    """Measure one series and add it to the CSV file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--backbone", default="minilm")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="NAME=VALUE", help="environment variables of the server"
    )
    parser.add_argument("--out", type=Path, default=Path("results/speed"))
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server is stopped
    file = results_folder(args.out, "cpu", args.threads) / "serving-memory.csv"
    settings, known = " ".join(args.set), " ".join(f"{name}={version}" for name, version in versions().items())
    done = list(csv.DictReader(file.open(encoding="utf-8"))) if file.exists() else []
    if any((row["dtype"], row["settings"]) == (args.dtype, settings) for row in done):
        print(f"{file} has this series already")
        return
    environment = dict(one.split("=", 1) for one in args.set)
    own = {"dtype": args.dtype, "settings": settings, "threads": args.threads, "versions": known}
    rows = [{**own, **row} for row in series(args.backbone, args.dtype, args.threads, args.minutes, environment)]
    write_csv(file, [*done, *rows])


if __name__ == "__main__":
    main()
