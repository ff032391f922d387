"""``polytask train``: train an adapter on texts with labels and put it in a store."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polytask.cli import console, live_progress, options, result_tables, train_several
from polytask.cli.config import ConfigFile, PrintConfig, print_resolved
from polytask.cli.launch_options import LaunchOptions
from polytask.cli.option_groups import BackboneOptions, GoalOptions, RecipeOptions, TaskOptions
from polytask.cli.options import ARGUMENTS, INTERRUPTED, app, error_exit, examples, print_json, spinner
from polytask.cli.progress_table import live_progress_table
from polytask.cli.verdicts import beside_majority, beside_probe, rare_labels
from polytask.errors import PolytaskError, RecipeError

if TYPE_CHECKING:
    from rich.console import Console

    from polytask.adapters.adapter import Adapter
    from polytask.adapters.store import Entry
    from polytask.backbones.backbone import Backbone
    from polytask.data.task import Task
    from polytask.training.events import Event, Progress
    from polytask.training.recipe import Recipe
    from polytask.training.result import Result
    from polytask.training.start_trial import ChosenStart
    from polytask.training.to_store import StoredRun
    from polytask.training.tune import Tuned


@app.command(
    epilog=examples(
        "polytask train reviews.csv --task sentiment",
        "polytask train pairs.tsv --task rte --text premise --text-pair hypothesis --metric f1 --size 128",
        "polytask train --hub nyu-mll/glue:cola --metric matthews --dry-run",
        "polytask train reviews.csv --task sentiment --tune",
        "polytask train reviews.csv --task sentiment --start movies@1",
        "polytask train reviews.csv --task sentiment --resume",
        "polytask train questions.csv --task qa --kind span",
        "polytask train spam.csv topic.csv mood.csv",
        "polytask train tasks/ --on ray --address auto",
        "polytask train --config train.yaml --lr 3e-4",
    )
)
def train(
    context: typer.Context,
    *,
    files: train_several.SourceFiles = None,
    data: TaskOptions,
    model: BackboneOptions,
    training: RecipeOptions,
    thresholds: GoalOptions,
    launch: LaunchOptions,
    size: options.Size = None,
    epochs: options.Epochs = None,
    lr: options.LearningRate = None,
    seed: options.Seed = 0,
    tune: Annotated[
        bool, typer.Option("--tune", help="Search the learning rate and the size, unless they are given.")
    ] = False,
    resume: options.Resume = False,
    checkpoint: options.CheckpointFile = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only estimate the cost: tokens, steps, memory, time.")
    ] = False,
    log: Annotated[
        str | None, typer.Option(metavar="DIR", help="Write a log for TensorBoard; needs polytask\\[log].")
    ] = None,
    store: options.StoreFolder = "adapters",
    config: ConfigFile = None,
    print_config: PrintConfig = False,
    as_json: options.AsJson = False,
) -> None:
    """Train an adapter on texts with labels and put it in the store as a new version."""
    if print_config:
        print_resolved(context)
        return
    from polytask.adapters.store import Store
    from polytask.training.to_store import check_replaceable, checkpoint_path, interrupted_setting

    recipe = training.recipe(size=size, lr=lr, epochs=epochs, seed=seed)
    Store(store)  # refuse an address that cannot be used before any work is done
    launch.check()
    extras, start = thresholds.extras(), training.start_from
    sources = train_several.files_in(files)
    if len(sources) > 1:
        of_one: dict[str, object] = {
            "--task": data.task,
            "--hub": data.hub,
            "--validation": data.validation,
            "--test": data.test,
        }
        of_one |= {"--tune": tune, "--dry-run": dry_run, "--log": log}
        train_several.check_single_task_options(of_one)
        check_launch(launch, resume, checkpoint)
        tasks = [data.read(source, seed) for source in sources]
        train_several.check_names([task.name for task in tasks], sources)
        where: dict[str, Any] = {"checkpoint": checkpoint, "resume": resume, "command": context.meta[ARGUMENTS]}
        train_several.train_files(tasks, recipe, model, store, launch, extras, start, as_json=as_json, **where)
        return
    if launch.is_remote:
        raise PolytaskError("--on ray is for several files or a sweep: one adapter trains on one machine")
    if tune:
        check_single_run_options(log, dry_run)
    task, extras = extras.prepared(data.read(next(iter(sources), None), seed))
    path = Path(checkpoint or checkpoint_path(store, task.name))
    if dry_run:
        show_estimate(model.load(), task, recipe, as_json)
        return
    if resume:
        model = model.resuming(interrupted_setting(path))
    elif checkpoint is not None:
        check_replaceable(path)
    backbone = model.load()
    try:
        sizes = () if size is None else (size,)
        where = {"checkpoint": checkpoint, "resume": resume, "start": start, **vars(extras)}
        run = (
            tuned_run(backbone, task, recipe, store, sizes, **where)
            if tune
            else single_run(backbone, task, recipe, store, log, **where)
        )
    except KeyboardInterrupt:
        raise error_exit(how_to_resume(path, context.meta[ARGUMENTS]), INTERRUPTED) from None
    if as_json:
        tuned = {} if run.tuned is None else {"tuned": tuned_to_json(run.tuned)}
        print_json({**run_to_json(run.entry, run.adapter, run.result, run.chosen), **tuned})
    else:
        show_run(run, task, backbone, store)


def single_run(backbone: Backbone, task: Task, recipe: Recipe, store: str, log: str | None, **where: Any) -> StoredRun:
    """Train with the recipe, with a progress bar."""
    from polytask.training.to_store import train_to_store

    err = console.terminal(stderr=True)
    with logged_progress(err, log) as progress:
        return train_to_store(
            backbone, task, recipe, store, progress=progress, notify=lambda note: console.notes(err, [note]), **where
        )


def tuned_run(
    backbone: Backbone, task: Task, base: Recipe, store: str, sizes: Sequence[int], **where: Any
) -> StoredRun:
    """Search the learning rate and the size, with a table of all settings, and print why the best was chosen."""
    from polytask.training.to_store import tune_to_store
    from polytask.training.tune import recipes_to_try, sizes_to_try

    err = console.terminal(stderr=True)
    sizes = sizes or sizes_to_try(base.method, is_fixed=where["start"] is not None)
    labels = {name: name for name in recipes_to_try(base, len(task.train), task.kind, size=sizes)}
    with live_progress_table(err, labels, task.metric) as progress:
        run = tune_to_store(
            backbone,
            task,
            base,
            store,
            size=sizes,
            progress=progress,
            notify=lambda note: console.notes(err, [note]),
            **where,
        )
    console.notes(err, [] if run.tuned is None else [f"chosen: {run.tuned.why}"])
    return run


@contextmanager
def logged_progress(out: Console, log: str | None) -> Iterator[Progress]:
    """A ``progress`` for ``train`` that shows each event and, if ``log`` is a folder, writes it for TensorBoard."""
    from polytask.training.log import logging

    with live_progress.watching(out) as shown:
        if log is None:
            yield shown
            return
        with logging(log) as logged:

            def both(event: Event) -> None:
                shown(event)
                logged(event)

            yield both


def check_single_run_options(log: str | None, dry_run: bool) -> None:
    """Refuse ``--tune`` together with options that are for one run."""
    for option, given in (("--log", log), ("--dry-run", dry_run)):
        if given:
            raise RecipeError(f"{option} is for one run, and --tune trains several. Leave one of them out")


def check_launch(launch: LaunchOptions, resume: bool, checkpoint: str | None) -> None:
    """Refuse ``--resume`` and ``--checkpoint`` on a cluster."""
    if launch.is_remote and (resume or checkpoint):
        option = "--resume" if resume else "--checkpoint"
        raise PolytaskError(f"{option} is for --on local: on a cluster each adapter is stored when it is finished")


def how_to_resume(checkpoint: Path, arguments: Sequence[str]) -> str:
    """The message after Ctrl-C, with the command that continues the run."""
    if not checkpoint.exists():
        return "interrupted before the first step; nothing was saved"
    resuming = arguments if "--resume" in arguments else [*arguments, "--resume"]
    return f"interrupted. To continue: {shlex.join(['polytask', *resuming])}"


def show_estimate(backbone: Backbone, task: Task, recipe: Recipe, as_json: bool) -> None:
    """Print what a run would cost; nothing is trained or written."""
    from polytask.training.estimate import estimate

    with spinner("timing a few steps"):
        cost = estimate(backbone, task, recipe)
    if as_json:
        print_json({"task": task.name, **cost.to_json()})
    else:
        console.terminal().print(result_tables.estimate_panel(task.name, backbone, cost))


def show_run(run: StoredRun, task: Task, backbone: Backbone, store: str) -> None:
    """Print the scores next to the majority class, the cost, and the command to try next."""
    from polytask.evaluation.baselines import majority as majority_of

    majority = majority_of(task, task.test or task.validation)
    out = console.terminal()
    out.print(result_tables.training_panel(run.entry, run.result, majority, backbone.max_length))
    reported = run.result.test or run.result.validation
    remarks = beside_majority(reported, None if majority is None else majority.score)
    remarks += beside_probe(reported, run.result.probe, run.result.label_counts)
    remarks += rare_labels(run.result.label_counts)
    console.notes(console.terminal(stderr=True), remarks)
    fitted = (run.result.calibration, run.result.thresholds, run.result.none)
    console.notes(console.terminal(stderr=True), [note for own in fitted for note in (own or {}).get("notes", ())])
    where = "" if store == "adapters" else f" --store {shlex.quote(store)}"
    second = "" if task.train.pairs is None else ' --pair "its second text"'
    console.hint(out, f'polytask predict --task {task.name}{where} "a text"{second}')


def tuned_to_json(tuned: Tuned) -> dict[str, Any]:
    """The settings that ``--tune`` compared, the best first."""
    trials = [{"name": trial.name, "epochs": trial.epochs, "score": trial.score} for trial in tuned.trials]
    return {"why": tuned.why, "recipe": tuned.recipe.to_json(), "trials": trials}


def run_to_json(entry: Entry, adapter: Adapter, result: Result, chosen: ChosenStart | None = None) -> dict[str, Any]:
    """The JSON of a run that ``train --json`` and ``sweep --json`` print."""
    scores = result.to_json()
    trial = None if chosen is None else {**asdict(replace(chosen, start=None)), "start": result.start}
    return {
        "task": entry.task,
        "method": result.method["name"],
        "adapter": {
            "path": entry.path,
            "version": entry.version,
            "digest": entry.digest,
            "tensor_digest": adapter.tensor_digest,
            "bytes": entry.size_bytes,
        },
        "parameters": result.parameters,
        "train": {**result.train, "truncated": result.truncated},
        "validation": scores["validation"],
        "test": scores["test"],
        "calibration": result.calibration,
        "thresholds": result.thresholds,
        "none": result.none,
        "probe": result.probe,
        "start": result.start,
        "start_trial": trial,
    }
