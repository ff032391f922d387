"""Times two versions of the source in turns: a short training, answers of one task, answers of many tasks mixed.

A change of structure must leave the speed as it was. Both versions run in this environment, each from its own folder::

    git worktree add ../before COMMIT
    python benchmarks/versions.py ../before [--after .] [--threads 2] [--rounds 7]

``versions.csv`` has one row for each kind of work: the median of the paired ratios after / before, with quartiles.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from contenders import HERE, Contender, results_folder, write_csv

KINDS: dict[str, dict[str, Any]] = {
    "training": {"work_kind": "train", "num_tasks": 1, "rows": 480},
    "answering, one task": {"work_kind": "answer", "num_tasks": 1, "rows": 416},
    "answering, 26 tasks mixed": {"work_kind": "answer", "num_tasks": 26, "rows": 416},
}


def paired_seconds(sources: dict[str, Path], settings: dict[str, Any], rounds: int) -> dict[str, list[float]]:
    """Seconds of each round and version: A B, B A, A B, …; the first round does not count."""
    contenders = {name: contender(name, source, settings) for name, source in sources.items()}
    taken: dict[str, list[float]] = {name: [] for name in sources}
    for turn in range(rounds + 1):
        for name in list(sources) if turn % 2 else reversed(list(sources)):
            seconds = contenders[name].ask({"run": [0]})["seconds"][0]
            if turn:
                taken[name].append(seconds)
    for one in contenders.values():
        one.close()
    return taken


def contender(name: str, source: Path, settings: dict[str, Any]) -> Contender:
    """The process that runs this version: its folder stands before the installed package."""
    if not (source / "src" / "polytask").is_dir():
        sys.exit(f"{source} has no src/polytask")
    return Contender(name, Path(sys.executable), "peers.with_version", settings, source=source / "src").wait()


def main() -> None:
    """Measure all kinds of work and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="folder of the earlier version")
    parser.add_argument("--after", type=Path, default=HERE.parent, help="folder of the later version (default: this)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--dtype", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--out", type=Path, default=Path("results/speed"))
    args = parser.parse_args()
    sources = {"before": args.before.resolve(), "after": args.after.resolve()}
    rows = []
    for dtype in args.dtype:
        for kind, work in KINDS.items():
            settings = {**work, "dtype": dtype, "threads": args.threads, "device": "cpu"}
            taken = paired_seconds(sources, settings, args.rounds)
            ratios = [after / before for before, after in zip(taken["before"], taken["after"], strict=True)]
            low, _, high = quantiles(ratios, n=4)
            rows.append(
                {
                    "work": kind,
                    "dtype": dtype,
                    "before_ms": round(1000 * median(taken["before"]), 1),
                    "after_ms": round(1000 * median(taken["after"]), 1),
                    "after_over_before": round(median(ratios), 3),
                    "quartiles": f"{low:.3f} to {high:.3f}",
                    "rounds": args.rounds,
                    "load_average": round(os.getloadavg()[0], 1),
                }
            )
    write_csv(results_folder(args.out, "cpu", args.threads) / "versions.csv", rows)


if __name__ == "__main__":
    main()
