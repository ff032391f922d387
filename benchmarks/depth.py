"""What adapters in the top layers only cost: accuracy against depth on six real tasks.

Of each task at most ``--rows`` training rows are drawn; all depths of a task train on the same rows with one seed and
Houlsby-64, and the best epoch by validation is scored on the same test rows. The layers below the trained ones are
computed once and shared by all depths. One JSON file per task and depth; what is there is not run again.

    python benchmarks/depth.py results/depth --data DIR [--backbone minilm] [--rows 1000] [--seed 0]
    python benchmarks/depth.py results/depth --table
    python benchmarks/depth.py results/depth --picture docs/depth.png
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.data.task import Task
from polytask.drawing.figures import COLOURS, INK, MUTED, figure, label_axes, save, style_axes
from polytask.methods import Houlsby
from polytask.suites.glue import read_glue
from polytask.suites.text17 import read_text17
from polytask.training.loop import train
from polytask.training.recipe import Recipe
from polytask.training.result import environment
from resumable import results_in, write_result

TASKS = ("CoLA", "MRPC", "SST-2", "crowdflower_airline", "news_aggregator", "sms_spam")
GLUE = ("CoLA", "MRPC", "SST-2")
TEST_ROWS, MAX_LENGTH = 500, 64


def read(name: str, data: Path, num_rows: int) -> Task:
    """A task with a fixed draw of training, validation and test rows."""
    task = read_glue(name, data / "glue") if name in GLUE else read_text17(name, data / "text17")
    draw = random.Random(name)
    train_rows = draw.sample(range(len(task.train)), min(num_rows + 300, len(task.train)))
    tested = task.validation if name in GLUE else task.test  # the labels of GLUE's test rows are not public
    assert tested is not None, "the tasks have test rows"
    test_rows = draw.sample(range(len(tested)), min(TEST_ROWS, len(tested)))
    own = task.train.take(train_rows)
    return replace(
        task,
        train=own.take(range(300, len(own))),
        validation=own.take(range(300)),
        test=tested.take(sorted(test_rows)),
    )


def run(backbone: Backbone, task: Task, depth: int, seed: int) -> dict[str, Any]:
    """The result of training adapters in the top ``depth`` layers."""
    layers = None if depth == backbone.num_layers else depth
    recipe = Recipe(Houlsby(64, layers=layers), seed=seed, max_length=MAX_LENGTH)
    started = time.process_time()
    adapter, result = train(backbone, task, recipe)
    assert result.test is not None, "the tasks have test rows"
    return {
        "task": task.name,
        "backbone": backbone.name,
        "depth": depth,
        "num_layers": backbone.num_layers,
        "seed": seed,
        "train_rows": len(task.train),
        "metric": task.metric,
        "score": result.test.score,
        "validation": result.validation.score,
        "processor_s": round(time.process_time() - started, 1),
        "digest": adapter.tensor_digest,
        "environment": environment(backbone.device, backbone.dtype),
    }


def run_missing(args: argparse.Namespace) -> None:
    """Run what has no file yet, the deepest first, so that an interrupted table can be read."""
    args.out.mkdir(parents=True, exist_ok=True)
    backbone = load_backbone(args.backbone)
    for name in TASKS:
        task = read(name, args.data, args.rows)
        for depth in range(backbone.num_layers, 0, -1):
            file = args.out / f"{Path(args.backbone).name}-{name}-{depth}-{args.seed}.json"
            if not file.exists():
                write_result(file, run(backbone, task, depth, args.seed))
                print(f"{file.name} written", file=sys.stderr, flush=True)


def curves(results: Sequence[dict[str, Any]]) -> dict[str, dict[int, float]]:
    """By task, the mean score of the seeds for each depth."""
    found: dict[str, dict[int, list[float]]] = {}
    for result in results:
        found.setdefault(result["task"], {}).setdefault(result["depth"], []).append(result["score"])
    return {task: {depth: mean(own[depth]) for depth in sorted(own)} for task, own in found.items()}


def table(folder: Path) -> Iterator[str]:
    """The lines of a table in Markdown: the score at full depth, and the points lost at others."""
    of_tasks = curves(results_in(folder))
    depths = sorted({depth for own in of_tasks.values() for depth in own})
    yield f"| task | {' | '.join(f'top {depth}' for depth in depths[:-1])} | all {depths[-1]} |"
    yield "| --- " * (len(depths) + 1) + "|"
    losses: dict[int, list[float]] = {depth: [] for depth in depths[:-1]}
    for task, own in of_tasks.items():
        whole = own.get(depths[-1])
        cells = []
        for depth in depths[:-1]:
            lost = None if whole is None or depth not in own else 100 * (own[depth] - whole)
            losses[depth] += [] if lost is None else [lost]
            cells.append("–" if lost is None else f"{lost:+.1f}")
        yield f"| {task} | {' | '.join(cells)} | {'–' if whole is None else f'{100 * whole:.1f}'} |"
    means = [f"{mean(lost):+.1f}" if lost else "–" for lost in losses.values()]
    yield f"| **mean** | {' | '.join(means)} | |"


def draw(folder: Path, picture: Path) -> None:
    """Each task's curve in grey and their mean, in points below all layers."""
    of_tasks = {task: own for task, own in curves(results_in(folder)).items() if len(own) > 1}
    drawn = figure(picture, 6.5, 4)
    axes = drawn.subplots()
    for task, own in of_tasks.items():
        depths = list(own)
        lost = [100 * (own[depth] - own[depths[-1]]) for depth in depths]
        axes.plot(depths, lost, color=MUTED, alpha=0.6, linewidth=1)
        axes.annotate(task, (depths[0], lost[0]), fontsize=7.5, color=INK, ha="left", va="bottom")
    shared = sorted(set.intersection(*(set(own) for own in of_tasks.values())))
    means = [mean(100 * (own[depth] - own[shared[-1]]) for own in of_tasks.values()) for depth in shared]
    axes.plot(shared, means, color=COLOURS["adapters"], linewidth=2.5, marker="o", label="mean")
    axes.legend(frameon=False, fontsize=9)
    style_axes(axes)
    label_axes(axes, "Adapters in the top layers only", "layers with adapters, from the top", "points below all layers")
    save(drawn, picture)


def main() -> None:
    """Run what is missing, print the table or draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--backbone", default="minilm")
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--picture", type=Path)
    args = parser.parse_args()
    if args.table:
        print("\n".join(table(args.out)))
    elif args.picture:
        draw(args.out, args.picture)
    else:
        run_missing(args)


if __name__ == "__main__":
    main()
