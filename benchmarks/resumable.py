"""Benchmarks that write one JSON file per run, so that an interrupted one continues; ``--table`` prints all runs."""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from statistics import mean, stdev
from typing import Any, TypeVar

from polytask.files import write_text

T = TypeVar("T")


def run_or_table(
    description: str | None,
    run: Callable[[argparse.Namespace], None],
    table: Callable[[Path], Iterator[str]],
    **defaults: str | int,
) -> None:
    """Parse the command line, then run what is missing or print the table.

    Args:
        description: what ``--help`` says.
        run: writes a file for each run that has none yet; its argument has ``out``, ``data``, ``minutes`` and the
            options.
        table: yields the lines of the table of the files in a folder.
        defaults: the other options with their defaults, which give their types.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", default="data")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no further run after so many")
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    if given.table:
        print("\n".join(table(given.out)))
    else:
        run(given)


def begun_within(minutes: float, runs: Iterable[T]) -> Iterator[T]:
    """The first of the runs, until so many minutes have passed."""
    end = time.monotonic() + 60 * minutes
    return itertools.takewhile(lambda _: time.monotonic() < end, runs)


def write_result(file: Path, values: Any) -> None:
    """Write the results of a run."""
    write_text(file, json.dumps(values, indent=1) + "\n")


def results_in(folder: Path) -> list[Any]:
    """The results of all runs, in the order of their files' names."""
    return [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]


def mean_and_spread(values: list[float]) -> str:
    """``0.912 ± 0.010 (5)``: the mean of the seeds, their standard deviation, and how many there are."""
    spread = f" ± {stdev(values):.3f}" if len(values) > 1 else ""
    return f"{mean(values):.3f}{spread} ({len(values)})"
