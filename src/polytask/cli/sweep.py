"""``polytask sweep``: train many settings at once and put the best one in a store."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from polytask.cli import console, options, result_tables, wording
from polytask.cli.config import ConfigFile, PrintConfig, print_resolved
from polytask.cli.launch_options import LaunchOptions
from polytask.cli.option_groups import BackboneOptions, GoalOptions, RecipeOptions, TaskOptions
from polytask.cli.options import ARGUMENTS, INTERRUPTED, app, error_exit, examples, print_json, spinner
from polytask.cli.output import check_folder
from polytask.cli.progress_table import live_progress_table
from polytask.cli.train import run_to_json
from polytask.errors import RecipeError

if TYPE_CHECKING:
    from rich.table import Table

    from polytask.adapters.store import Entry, Store
    from polytask.backbones.backbone import Backbone
    from polytask.data.task import Task
    from polytask.training.recipe import Recipe
    from polytask.training.result import Result
    from polytask.training.start import Start
    from polytask.training.sweep_cost import SettingCost
    from polytask.training.sweep_result import Sweep

N = TypeVar("N", int, float)


@app.command(
    epilog=examples(
        "polytask sweep reviews.csv --task sentiment --lr 3e-4,1e-3,3e-3 --size 8,64 --seeds 3",
        "polytask sweep reviews.csv --task sentiment --method lora --size 4,8,16 --figure lora.png",
        "polytask sweep reviews.csv --task sentiment --lr 3e-4,1e-3 --seeds 8 --on ray --address auto",
    )
)
def sweep(
    context: typer.Context,
    *,
    file: options.SourceFile = None,
    data: TaskOptions,
    model: BackboneOptions,
    training: RecipeOptions,
    thresholds: GoalOptions,
    launch: LaunchOptions,
    lr: Annotated[str | None, typer.Option(metavar="NUMBERS", help="Learning rates: 3e-4,1e-3,3e-3.")] = None,
    size: Annotated[str | None, typer.Option(metavar="NUMBERS", help="The method's sizes or ranks: 8,64.")] = None,
    epochs: Annotated[str | None, typer.Option(metavar="NUMBERS", help="Numbers of epochs: 3,20.")] = None,
    seeds: Annotated[int, typer.Option(help="Runs of each setting, each with its own seed.")] = 3,
    seed: Annotated[int, typer.Option(help="The first seed; it also draws the validation rows.")] = 0,
    results: Annotated[
        str | None, typer.Option(metavar="DIR", help="Folder for the results of all runs (default: sweeps/TASK).")
    ] = None,
    figure: Annotated[
        str | None, typer.Option(metavar="FILE", help="Draw the results: .png, .pdf or .svg; needs polytask\\[paper].")
    ] = None,
    budget_tokens: Annotated[
        int | None, typer.Option(help="Tokens per step of all runs together (default: as memory allows).")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list the runs and estimate their cost. Trains nothing.")
    ] = False,
    store: options.StoreFolder = "adapters",
    config: ConfigFile = None,
    print_config: PrintConfig = False,
    as_json: options.AsJson = False,
) -> None:
    """Train every combination of these settings at once, and store the one with the best validation score.

    Each run is saved when it ends. Repeat the same command to continue an interrupted sweep.
    """
    if print_config:
        print_resolved(context)
        return
    from polytask.adapters.store import Store
    from polytask.training.grid import grid, labelled
    from polytask.training.sweep import settled
    from polytask.training.sweep import sweep as run_sweep
    from polytask.training.sweep_files import started_with
    from polytask.training.to_store import put_once

    recipes = grid(
        training.recipe(seed=seed),
        lr=numbers("--lr", lr, float, "3e-4,1e-3"),
        size=numbers("--size", size, int, "8,64"),
        epochs=numbers("--epochs", epochs, int, "3,20"),
        seeds=seeds,
    )
    check_drawable(figure, recipes)
    launch.check()
    adapters = Store(store)
    start = sweep_start(training, adapters)
    task, extras = thresholds.extras().prepared(data.read(file, seed))
    folder = results or str(Path("sweeps", task.name))
    backbone = model.resuming(started_with(folder)).load()
    recipes = settled(backbone, task, recipes)
    if dry_run:
        show_costs(backbone, task, recipes, as_json)
        return
    try:
        with live_progress_table(console.terminal(stderr=True), labelled(recipes), task.metric) as progress:
            how: dict[str, Any] = {"folder": folder, "progress": progress, "budget_tokens": budget_tokens}
            how["start"] = start
            if launch.is_remote:
                how["train"] = partial(
                    launch.train, backbone, budget_tokens=budget_tokens, with_test=False, start=start
                )
            swept = run_sweep(backbone, task, recipes, **how, **vars(extras))
    except KeyboardInterrupt:
        command = shlex.join(["polytask", *context.meta[ARGUMENTS]])
        raise error_exit(f"interrupted. To continue: {command}", INTERRUPTED) from None
    if figure is not None:
        from polytask.drawing.sweep import sweep_figure

        sweep_figure(swept, figure)
    entry = put_once(adapters, swept.best)
    if as_json:
        best = {**run_to_json(entry, swept.best, best_result(swept)), "recipe": swept.best_run.recipe.to_json()}
        shown = {"task": task.name, "metric": swept.metric, "settings": swept.table(), "best": best}
        print_json({**shown, "results": folder, "figure": figure})
    else:
        show_sweep(swept, entry, task, folder=folder, figure=figure, store=store)


def show_sweep(swept: Sweep, entry: Entry, task: Task, *, folder: str, figure: str | None, store: str) -> None:
    """Print the table of settings, the best run, and where the results are."""
    from polytask.evaluation.baselines import majority

    out = console.terminal()
    out.print(settings_table(swept))
    out.print(result_tables.training_panel(entry, best_result(swept), majority(task, task.test or task.validation)))
    drawn = "" if figure is None else f", figure in {figure}"
    out.print(f"results of {wording.counted(len(swept.runs), 'run')} in {folder}{drawn}")
    where = "" if store == "adapters" else f" --store {shlex.quote(store)}"
    console.hint(out, f"polytask show {entry}{where}")


def sweep_start(training: RecipeOptions, adapters: Store) -> Start | None:
    """What all runs start from.

    Raises:
        RecipeError: it is ``auto``, which chooses for one recipe.
    """
    from polytask.training.start import start_from

    if training.start_from == "auto":
        raise RecipeError("--start auto is for one recipe, and a sweep has several. Name the adapter to start from")
    return start_from(training.start_from, adapters)


def best_result(swept: Sweep) -> Result:
    """The result of the run with the best validation score."""
    result = swept.best_run.result
    assert result is not None, "the best run has a result"
    return result


def show_costs(backbone: Backbone, task: Task, recipes: Sequence[Recipe], as_json: bool) -> None:
    """Print what the runs would cost, one line per setting; nothing is trained or written."""
    from polytask.training.sweep_cost import sweep_cost

    with spinner("timing a few steps of every setting"):
        costs = sweep_cost(backbone, task, recipes)
    total = {
        name: sum(getattr(cost.run, name) * len(cost.seeds) for cost in costs)
        for name in ("steps", "tokens", "seconds")
    }
    if as_json:
        settings = [cost.to_json() for cost in costs]
        print_json({"task": task.name, "runs": len(recipes), "settings": settings, **total})
        return
    out = console.terminal()
    out.print(costs_table(costs))
    runs = (
        f"{wording.counted(len(recipes), 'run')} of {task.name}: {total['steps']:,} steps, {total['tokens']:,} tokens"
    )
    time = f"about {wording.seconds_in_words(total['seconds'])} one after another, or less if they share forward passes"
    out.print(f"{runs}, {time}. Nothing was trained or written.")


def costs_table(costs: Sequence[SettingCost]) -> Table:
    """One line per setting; steps, tokens and time are those of one run."""
    from polytask.training.grid import value_in_words

    names = list(costs[0].values)
    counts = ("steps", "tokens", "trained", "memory", "time")
    table = console.grid(*names, "seeds", *counts, right=(*names, *counts))
    for cost in costs:
        table.add_row(
            *(value_in_words(value) for value in cost.values.values()),
            ", ".join(map(str, cost.seeds)),
            f"{cost.run.steps:,}",
            f"{cost.run.tokens:,}",
            f"{cost.run.parameters['trained']:,}",
            wording.bytes_in_words(cost.run.memory_bytes["total"]),
            wording.seconds_in_words(cost.run.seconds),
        )
    return table


def settings_table(swept: Sweep) -> Table:
    """One line per setting, the best first."""
    from polytask.training.grid import value_in_words

    names = list(swept.settings[0].values)
    scored = f"validation {swept.metric}"
    table = console.grid(*names, scored, "runs", "parameters", right=(*names, "runs", "parameters"))
    for rank, row in enumerate(swept.table()):
        error = "" if row["sem"] is None else f" ± {row['sem']:.3f}"
        score = "diverged" if row["score"] is None else f"{row['score']:.3f}{error}"
        runs = str(row["runs"]) + (f", {row['diverged']} diverged" if row["diverged"] and row["score"] else "")
        count = "" if row["parameters"] is None else f"{row['parameters']:,}"
        style = "red" if row["score"] is None else "bold green" if rank == 0 else ""
        table.add_row(*(value_in_words(row[name]) for name in names), score, runs, count, style=style)
    return table


def numbers(option: str, given: str | None, kind: Callable[[str], N], example: str) -> tuple[N, ...]:
    """The numbers of ``3e-4,1e-3``; empty if the option is not given.

    Raises:
        RecipeError: they are not numbers.
    """
    try:
        return () if given is None else tuple(kind(part) for part in given.split(","))
    except ValueError:
        raise RecipeError(f"{option} {given} is not understood. Write, for example, {option} {example}") from None


def check_drawable(figure: str | None, recipes: Sequence[Recipe]) -> None:
    """Refuse a figure that cannot be drawn before anything is trained.

    Raises:
        DataError: its folder does not exist, or its format is unknown.
        RecipeError: only the seed varies, so there is nothing to draw.
    """
    from polytask.training.grid import varying

    if figure is None:
        return
    from polytask.drawing.figures import figure as empty_figure

    check_folder(figure)
    empty_figure(figure, 1, 1)
    if not varying(recipes):
        raise RecipeError(
            f"nothing but the seed varies: there is nothing to draw in {figure}. Give several --lr or --size"
        )
