"""``polytask sweep``: many settings at once, the best by validation into the store."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from polytask.cli import console, options, result_tables, wording
from polytask.cli.config import ConfigFile, PrintConfig, print_resolved
from polytask.cli.input_rows import task_given
from polytask.cli.method_options import method_of
from polytask.cli.options import GIVEN, INTERRUPTED, app, emit, examples, loaded, refused, working
from polytask.cli.output import check_folder
from polytask.cli.side_by_side import side_by_side
from polytask.cli.train import summary
from polytask.errors import NoSuchAdapter, RecipeError

if TYPE_CHECKING:
    from rich.table import Table

    from polytask.adapters.adapter import Adapter
    from polytask.adapters.store import Entry, Store
    from polytask.backbones.backbone import Backbone
    from polytask.data.task import Task
    from polytask.training.recipe import Recipe
    from polytask.training.sweep_result import Sweep

N = TypeVar("N", int, float)


@app.command(
    epilog=examples(
        "polytask sweep reviews.csv --task sentiment --lr 3e-4,1e-3,3e-3 --size 8,64 --seeds 3",
        "polytask sweep reviews.csv --task sentiment --method lora --size 4,8,16 --figure lora.png",
    )
)
def sweep(
    context: typer.Context,
    file: options.SourceFile = None,
    hub: options.HubName = None,
    task: options.TaskName = None,
    backbone: options.BackboneName = "minilm",
    method: options.MethodName = "houlsby",
    setting: options.Settings = None,
    lr: Annotated[str | None, typer.Option(metavar="NUMBERS", help="Learning rates: 3e-4,1e-3,3e-3.")] = None,
    size: Annotated[str | None, typer.Option(metavar="NUMBERS", help="The method's sizes or ranks: 8,64.")] = None,
    epochs: Annotated[str | None, typer.Option(metavar="NUMBERS", help="Numbers of epochs: 3,20.")] = None,
    seeds: Annotated[int, typer.Option(help="Runs of each setting.")] = 3,
    batch_size: options.BatchSize = 32,
    max_length: options.MaxLength = 256,
    long: options.LongTexts = "truncate",
    stride: options.Stride = None,
    seed: Annotated[int, typer.Option(help="The first of the seeds; it also draws what is held out.")] = 0,
    class_weights: options.ClassWeights = None,
    keep_prefix: options.KeepPrefix = True,
    patience: options.Patience = None,
    validation: options.ValidationFile = None,
    test: Annotated[
        str | None, typer.Option(metavar="FILE", help="Rows to report on, once, by the best; they choose nothing.")
    ] = None,
    text: options.TextColumn = None,
    text_pair: options.PairColumn = None,
    label: options.LabelColumn = None,
    kind: options.TaskKind = None,
    metric: options.TaskMetric = None,
    positive: options.Positive = None,
    drop_empty: options.DropEmpty = False,
    encoding: options.Encoding = None,
    results: Annotated[
        str | None, typer.Option(metavar="DIR", help="Keeps every run; sweeps/TASK unless given.")
    ] = None,
    figure: Annotated[
        str | None, typer.Option(metavar="FILE", help="A picture of it: .png, .pdf or .svg; needs polytask\\[paper].")
    ] = None,
    budget_tokens: Annotated[
        int | None, typer.Option(help="Tokens of a step, all runs together; as memory allows unless given.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list the runs and say what they would cost. Trains nothing.")
    ] = False,
    store: options.StoreFolder = "adapters",
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    config: ConfigFile = None,
    print_config: PrintConfig = False,
    as_json: options.AsJson = False,
) -> None:
    """Train every combination of these settings at once, and put the best by validation in the store.

    Every run is kept as it ends. The same command again goes on where an interrupted sweep was.
    """
    if print_config:
        print_resolved(context)
        return
    from polytask.adapters.store import Store
    from polytask.evaluation.baselines import majority
    from polytask.training.grid import grid, labelled
    from polytask.training.recipe import Recipe
    from polytask.training.sweep import settled
    from polytask.training.sweep import sweep as run_sweep
    from polytask.training.sweep_files import started_with

    err = console.terminal(stderr=True)
    base = Recipe(
        method_of(method, None, setting),
        batch_size=batch_size,
        max_length=max_length,
        long=long,  # type: ignore[arg-type]
        stride=stride,
        seed=seed,
        class_weights=class_weights,
        keep_prefix=keep_prefix,
        patience=patience,
    )
    recipes = grid(
        base,
        lr=numbers("--lr", lr, float, "3e-4,1e-3"),
        size=numbers("--size", size, int, "8,64"),
        epochs=numbers("--epochs", epochs, int, "3,20"),
        seeds=seeds,
    )
    check_drawable(figure, recipes)
    adapters = Store(store)
    data = task_given(
        file,
        hub,
        validation,
        test,
        encoding,
        name=task,
        text=text,
        text_pair=text_pair,
        label=label,
        kind=kind,
        metric=metric,
        positive=positive,
        seed=seed,
        drop_empty=drop_empty,
    )
    folder = results or str(Path("sweeps", data.name))
    before = started_with(folder)
    frozen = loaded(backbone, device, before["dtype"] if before and dtype == "auto" else dtype)
    recipes = settled(frozen, data, recipes)
    if dry_run:
        show_costs(frozen, data, recipes, as_json)
        return
    try:
        with side_by_side(err, labelled(recipes), data.metric) as progress:
            swept = run_sweep(frozen, data, recipes, folder=folder, progress=progress, budget_tokens=budget_tokens)
    except KeyboardInterrupt:
        again = shlex.join(["polytask", *context.meta[GIVEN]])
        raise refused(f"interrupted. To go on from here: {again}", INTERRUPTED) from None
    if figure is not None:
        from polytask.paper.sweep_figure import sweep_figure

        sweep_figure(swept, figure)
    best, result = swept.best, swept.best_run.result
    assert result is not None, "the best run has a result"
    entry = stored(adapters, best)
    if as_json:
        of_best = {**summary(entry, best, result), "recipe": swept.best_run.recipe.to_json()}
        shown = {"task": data.name, "metric": swept.metric, "settings": swept.table(), "best": of_best}
        emit({**shown, "results": folder, "figure": figure})
        return
    out = console.terminal()
    out.print(settings_table(swept))
    out.print(result_tables.trained(entry, result, majority(data, data.test or data.validation)))
    written = "" if figure is None else f", the picture {figure}"
    out.print(f"kept in {folder}: {wording.counted(len(swept.runs), 'run')}{written}")
    where = "" if store == "adapters" else f" --store {shlex.quote(store)}"
    console.hint(out, f"polytask show {entry}{where}")


def show_costs(backbone: Backbone, data: Task, recipes: Sequence[Recipe], as_json: bool) -> None:
    """Print what the runs would cost, one line a setting; nothing is trained or written."""
    lines = costs(backbone, data, recipes)
    total = {name: sum(line[name] * len(line["seeds"]) for line in lines) for name in ("steps", "tokens", "seconds")}
    if as_json:
        emit({"task": data.name, "runs": len(recipes), "settings": lines, **total})
        return
    out = console.terminal()
    out.print(costs_table(lines))
    runs = (
        f"{wording.counted(len(recipes), 'run')} of {data.name}: {total['steps']:,} steps, {total['tokens']:,} tokens"
    )
    time = f"about {wording.seconds_in_words(total['seconds'])} one after another, less where they share forward passes"
    out.print(f"{runs}, {time}. Nothing was trained or written.")


def costs(backbone: Backbone, data: Task, recipes: Sequence[Recipe]) -> list[dict[str, Any]]:
    """The cost of one run of each setting, with its seeds.

    A learning rate and a seed cost nothing, so settings that differ in these alone are measured once.
    """
    from polytask.training.estimate import estimate
    from polytask.training.grid import varying

    names = varying(recipes)
    measured: dict[Recipe, Any] = {}
    lines: dict[Recipe, dict[str, Any]] = {}
    for recipe in recipes:
        if (setting := replace(recipe, seed=0)) in lines:
            lines[setting]["seeds"].append(recipe.seed)
            continue
        alike = replace(setting, lr=None)
        if alike not in measured:
            with working(f"timing some steps of {recipe.method.name}"):
                measured[alike] = estimate(backbone, data, recipe)
        cost, own = measured[alike], recipe.settings()
        values = {name: own.get(name) for name in names}
        shown = {name: getattr(cost, name) for name in ("steps", "tokens", "seconds", "memory_bytes", "parameters")}
        lines[setting] = {"values": values, "seeds": [recipe.seed], **shown}
    return list(lines.values())


def costs_table(lines: Sequence[Mapping[str, Any]]) -> Table:
    """One line a setting; steps, tokens and time are those of one run."""
    from polytask.training.grid import value_in_words

    names = list(lines[0]["values"])
    counts = ("steps", "tokens", "trained", "memory", "time")
    table = console.grid(*names, "seeds", *counts, right=(*names, *counts))
    for line in lines:
        table.add_row(
            *(value_in_words(value) for value in line["values"].values()),
            ", ".join(map(str, line["seeds"])),
            f"{line['steps']:,}",
            f"{line['tokens']:,}",
            f"{line['parameters']['trained']:,}",
            wording.bytes_in_words(line["memory_bytes"]["total"]),
            wording.seconds_in_words(line["seconds"]),
        )
    return table


def numbers(option: str, given: str | None, kind: Callable[[str], N], example: str) -> tuple[N, ...]:
    """The numbers of ``3e-4,1e-3``; none where the option is not given.

    Raises:
        RecipeError: they are not numbers.
    """
    try:
        return () if given is None else tuple(kind(part) for part in given.split(","))
    except ValueError:
        raise RecipeError(f"{option} {given} is not understood. Write, for example, {option} {example}") from None


def check_drawable(figure: str | None, recipes: list[Recipe]) -> None:
    """Refuse, before any work is done, a picture that cannot be drawn."""
    from polytask.training.grid import varying

    if figure is None:
        return
    from polytask.paper.figures import figure as empty_figure

    check_folder(figure)
    empty_figure(figure, 1, 1)
    if not varying(recipes):
        raise RecipeError(
            f"nothing but the seed varies: there is nothing to draw in {figure}. Give several --lr or --size"
        )


def stored(adapters: Store, adapter: Adapter) -> Entry:
    """The adapter in the store: as the version that it is already, or as a new one."""
    task = adapter.header.task
    try:
        versions = adapters.versions(task)
    except NoSuchAdapter:
        versions = []
    entries = (adapters.entry(f"{task}@{version}") for version in reversed(versions))
    return next((e for e in entries if e.digest == adapter.header.digest), None) or adapters.put(adapter)


def settings_table(swept: Sweep) -> Table:
    """One line a setting, the best first."""
    from polytask.training.grid import value_in_words

    names = list(swept.settings[0].values)
    scored = f"validation {swept.metric}"
    table = console.grid(*names, scored, "runs", "parameters", right=(*names, "runs", "parameters"))
    for at, row in enumerate(swept.table()):
        error = "" if row["sem"] is None else f" ± {row['sem']:.3f}"
        score = "diverged" if row["score"] is None else f"{row['score']:.3f}{error}"
        runs = str(row["runs"]) + (f", {row['diverged']} diverged" if row["diverged"] and row["score"] else "")
        count = "" if row["parameters"] is None else f"{row['parameters']:,}"
        style = "bold green" if at == 0 and row["score"] is not None else "red" if row["score"] is None else ""
        table.add_row(*(value_in_words(row[name]) for name in names), score, runs, count, style=style)
    return table
