"""``polytask train``: a file of texts and labels becomes an adapter in a store."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from polytask.cli import console, live_progress, options, result_tables, several, wording
from polytask.cli.config import ConfigFile, PrintConfig, print_resolved
from polytask.cli.input_rows import task_given
from polytask.cli.method_options import method_of
from polytask.cli.options import GIVEN, INTERRUPTED, app, emit, examples, loaded, refused, working
from polytask.cli.side_by_side import side_by_side
from polytask.cli.verdicts import beside_majority
from polytask.errors import CheckpointError, NoSuchAdapter, RecipeError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from polytask.adapters.adapter import Adapter
    from polytask.adapters.store import Entry, Store
    from polytask.backbones.backbone import Backbone
    from polytask.data.task import Task
    from polytask.evaluation.thresholds import Goal
    from polytask.training.checkpoint import Checkpoint
    from polytask.training.estimate import Estimate
    from polytask.training.events import Event, Progress
    from polytask.training.job import Job
    from polytask.training.recipe import Recipe
    from polytask.training.result import Result
    from polytask.training.tune import Tuned


@app.command(
    epilog=examples(
        "polytask train reviews.csv --task sentiment",
        "polytask train pairs.tsv --task rte --text premise --text-pair hypothesis --metric f1 --size 128",
        "polytask train --hub nyu-mll/glue:cola --metric matthews --dry-run",
        "polytask train reviews.csv --task sentiment --tune",
        "polytask train reviews.csv --task sentiment --resume",
        "polytask train questions.csv --task qa --kind span",
        "polytask train spam.csv topic.csv mood.csv",
        "polytask train --config train.yaml --lr 3e-4",
    )
)
def train(
    context: typer.Context,
    files: several.SourceFiles = None,
    hub: options.HubName = None,
    task: options.TaskName = None,
    backbone: options.BackboneName = "minilm",
    method: options.MethodName = "houlsby",
    size: options.Size = None,
    setting: options.Settings = None,
    epochs: Annotated[int | None, typer.Option(help="Number of epochs (default: from the number of rows).")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate; the method's own unless given.")] = None,
    batch_size: options.BatchSize = 32,
    max_length: options.MaxLength = 256,
    long: options.LongTexts = "truncate",
    stride: options.Stride = None,
    seed: Annotated[int, typer.Option(help="Same seed, same adapter.")] = 0,
    class_weights: options.ClassWeights = None,
    keep_prefix: options.KeepPrefix = True,
    patience: options.Patience = None,
    precision: options.Precision = None,
    recall: options.Recall = None,
    coverage: options.Coverage = None,
    f1: options.F1 = False,
    per_label: options.PerLabel = False,
    tune: Annotated[
        bool, typer.Option("--tune", help="Find the learning rate and the size, as far as they are not given.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run, to the same adapter.")
    ] = False,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Where to keep the run while it lasts; in the store's .training unless given."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what it would cost: tokens, steps, memory, time.")
    ] = False,
    log: Annotated[
        str | None, typer.Option(metavar="DIR", help="Write a log for TensorBoard; needs polytask\\[log].")
    ] = None,
    validation: options.ValidationFile = None,
    test: Annotated[str | None, typer.Option(metavar="FILE", help="Rows to report on, once, at the end.")] = None,
    text: options.TextColumn = None,
    text_pair: options.PairColumn = None,
    label: options.LabelColumn = None,
    kind: options.TaskKind = None,
    metric: options.TaskMetric = None,
    positive: options.Positive = None,
    drop_empty: options.DropEmpty = False,
    encoding: options.Encoding = None,
    store: options.StoreFolder = "adapters",
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    config: ConfigFile = None,
    print_config: PrintConfig = False,
    as_json: options.AsJson = False,
) -> None:
    """Train an adapter on a file of texts and labels, and put it in the store as a new version."""
    if print_config:
        print_resolved(context)
        return
    from polytask.adapters.store import Store
    from polytask.evaluation.baselines import majority as majority_of
    from polytask.file_lock import exclusive_run
    from polytask.training.checkpoint import Checkpoint
    from polytask.training.estimate import estimate
    from polytask.training.loop import train as train_adapter
    from polytask.training.recipe import Recipe

    err = console.terminal(stderr=True)
    recipe = Recipe(
        method_of(method, size, setting),
        lr=lr,
        epochs=epochs,
        batch_size=batch_size,
        max_length=max_length,
        long=long,  # type: ignore[arg-type]
        stride=stride,
        seed=seed,
        class_weights=class_weights,
        keep_prefix=keep_prefix,
        patience=patience,
    )
    adapters = Store(store)
    goal = goal_of(precision, recall, coverage, f1, per_label)
    columns = {"text": text, "text_pair": text_pair, "label": label}
    asked = {**columns, "kind": kind, "metric": metric, "positive": positive, "seed": seed, "drop_empty": drop_empty}
    sources = several.files_in(files)
    if len(sources) > 1:
        of_one = {"--task": task, "--hub": hub, "--validation": validation, "--test": test, "--tune": tune}
        of_one_run = {"--resume": resume, "--checkpoint": checkpoint, "--dry-run": dry_run, "--log": log}
        several.check_about_all({**of_one, **of_one_run, "--precision, --recall, --coverage or --f1": goal})
        several.train_files(
            sources,
            recipe,
            adapters,
            lambda: loaded(backbone, device, dtype),
            lambda file: task_given(file, None, None, None, encoding, **asked),
            as_json=as_json,
        )
        return
    if tune:
        check_tunable(log, dry_run, goal)
    data = task_given(next(iter(sources), None), hub, validation, test, encoding, name=task, **asked)
    kept = Checkpoint(
        checkpoint or checkpoint_of(store, data.name), resumed=lambda jobs: console.notes(err, [at(jobs)])
    )
    if dry_run:
        frozen = loaded(backbone, device, dtype)
        with working("timing some steps"):
            cost = estimate(frozen, data, recipe)
        if as_json:
            emit({"task": data.name, **cost.to_json()})
        else:
            console.terminal().print(estimated(data.name, frozen, cost))
        return
    if checkpoint is not None and not resume:
        check_own(kept)
    before = kept.header() if resume else None
    frozen = loaded(backbone, device, dtype if before is None else dtype_of(before, dtype))
    with exclusive_run(
        kept.path, f"training {data.name!r} with {kept.path}", "give this one a --checkpoint of its own"
    ):
        none_yet = [f"there is no checkpoint {kept.path} yet"]
        console.notes(err, start_over(kept) if not resume else [] if before else none_yet)
        found: Tuned | None = None
        try:
            if tune:
                found = tuned(err, frozen, data, recipe, size, kept, resume)
                adapter, result = found.adapter, found.result
            else:
                with watched(err, log) as progress:
                    adapter, result = train_adapter(
                        frozen, data, recipe, progress=progress, checkpoint=kept, resume=resume, goal=goal
                    )
        except KeyboardInterrupt:
            raise refused(how_to_resume(kept, context.meta[GIVEN]), INTERRUPTED) from None
        entry = (stored_already(adapters, adapter) if resume else None) or adapters.put(adapter)
        clear(kept)
    tidy(kept)
    if as_json:
        emit({**summary(entry, adapter, result), **({} if found is None else {"tuned": choice(found)})})
        return
    majority = majority_of(data, data.test or data.validation)
    where = "" if store == "adapters" else f" --store {shlex.quote(store)}"
    second = "" if data.train.pairs is None else ' --pair "its second text"'
    out = console.terminal()
    out.print(result_tables.trained(entry, result, majority, frozen.max_length))
    reported = result.test or result.validation
    console.notes(err, beside_majority(reported, None if majority is None else majority.score))
    console.notes(err, [note for of in (result.calibration, result.thresholds) for note in (of or {}).get("notes", ())])
    console.hint(out, f'polytask predict --task {data.name}{where} "a text"{second}')


def estimated(task: str, backbone: Backbone, cost: Estimate) -> RenderableType:
    """What a run would cost."""
    of, memory, recipe = cost.parameters, cost.memory_bytes, cost.recipe
    texts = "" if cost.texts == cost.rows else f" in {wording.counted(cost.texts, 'window')}"
    room = Text(
        f"{wording.bytes_in_words(memory['total'])}: {wording.bytes_in_words(memory['backbone'])} backbone, "
        f"{wording.bytes_in_words(memory['training'])} trained, "
        f"{wording.bytes_in_words(memory['step'])} the largest step",
        style="yellow" if memory["total"] - memory["backbone"] > memory["free"] else "",
    )
    rows: list[tuple[str, RenderableType]] = [
        ("rows", f"{cost.rows:,} to train on{texts}, {cost.validation_rows:,} to validate with"),
        ("tokens", f"{cost.tokens_an_epoch:,} an epoch, {cost.tokens:,} in all"),
        ("truncated", result_tables.truncated(cost.truncated, cost.rows, recipe, backbone.max_length)),
        (
            "steps",
            f"{cost.steps:,}: {wording.counted(cost.epochs, 'epoch')} in batches of {recipe['batch_size']} at most",
        ),
        (
            "trained",
            f"{of['trained']:,} parameters and a head of {of['head']:,}: "
            f"{of['percent']:.2f}% of the backbone's {of['backbone']:,}",
        ),
        ("memory", room),
        ("free now", wording.bytes_in_words(memory["free"])),
        ("time", f"about {wording.seconds_in_words(cost.seconds)} at the speed of some steps that were timed now"),
    ]
    dtype = str(backbone.dtype).removeprefix("torch.")
    name = f"{task} · {wording.method_in_words(recipe['method'])} on {backbone.name} ({dtype}, {backbone.device})"
    return console.panel(name, [*rows, ("adapter", "none: nothing was trained or written")])


def goal_of(
    precision: float | None, recall: float | None, coverage: float | None, f1: bool, per_label: bool
) -> Goal | None:
    """What thresholds are to hold, by the options; None where none is given."""
    from polytask.evaluation.thresholds import Goal

    shares: dict[Any, float | None] = {"precision": precision, "recall": recall, "coverage": coverage}
    goals = [Goal(aim, share, per_label) for aim, share in shares.items() if share is not None]
    goals += [Goal("f1", None, True)] if f1 else []
    if len(goals) > 1:
        raise RecipeError("thresholds hold one thing. Give one of --precision, --recall, --coverage and --f1")
    if per_label and not goals:
        raise RecipeError("--per-label is about thresholds. Give --precision, --recall or --coverage with it")
    return goals[0] if goals else None


def check_tunable(log: str | None, dry_run: bool, goal: Goal | None) -> None:
    """Refuse what is about one run where there are several."""
    for option, given in (("--log", log), ("--dry-run", dry_run), (f"--{goal and goal.aim}", goal)):
        if given:
            raise RecipeError(f"{option} is about one run, and --tune makes several. Leave the one or the other out")


def tuned(
    out: Console, backbone: Backbone, data: Task, base: Recipe, size: int | None, kept: Checkpoint, resume: bool
) -> Tuned:
    """Train with the learning rate and the size that suit the data, and say why these."""
    from polytask.training.tune import recipes_to_try, tune

    sizes = () if size is None else (size,)
    labels = {name: name for name in recipes_to_try(base, len(data.train), size=sizes)}
    with side_by_side(out, labels, data.metric) as progress:
        found = tune(backbone, data, base, size=sizes, progress=progress, checkpoint=kept, resume=resume)
    console.notes(out, [f"chosen: {found.why}"])
    return found


def choice(found: Tuned) -> dict[str, Any]:
    """What ``train --tune --json`` says of the settings that were tried, the chosen one first."""
    trials = [{"name": trial.name, "epochs": trial.epochs, "score": trial.score} for trial in found.trials]
    return {"why": found.why, "recipe": found.recipe.to_json(), "trials": trials}


def checkpoint_of(store: str, task: str) -> Path:
    """Where a run is kept unless it is said: in the store, or here if the store is on another machine."""
    from polytask.adapters.store import TRAINING

    return Path("" if "://" in store else store, TRAINING, f"{task}.ckpt")


def dtype_of(before: Mapping[str, Any], given: str) -> str:
    """What ``auto`` was when the interrupted run began."""
    return str(before.get("setting", {}).get("dtype", given)) if given == "auto" else given


def check_own(kept: Checkpoint) -> None:
    """Refuse to write over a file that is something else."""
    try:
        kept.header()
    except CheckpointError:
        raise CheckpointError(
            f"{kept.path} is there and is not a checkpoint that can be read, so it is not written over. "
            "Give --checkpoint another name"
        ) from None


def former(kept: Checkpoint) -> Path:
    """Where the checkpoint is that a new run took the place of."""
    return kept.path.with_name(f"{kept.path.name}.old")


def start_over(kept: Checkpoint) -> list[str]:
    """Set an interrupted run's checkpoint aside, and say so."""
    if not kept.path.exists():
        return []
    kept.path.replace(former(kept))
    return [
        "an interrupted run of this task was found. Pass --resume to continue it. Until this new run ends, its "
        f"checkpoint is kept as {former(kept)}"
    ]


def how_to_resume(kept: Checkpoint, given: Sequence[str]) -> str:
    """What to say of an interrupt."""
    if not kept.path.exists():
        return "interrupted before the first step; nothing was kept"
    again = given if "--resume" in given else [*given, "--resume"]
    return f"interrupted. To go on from here: {shlex.join(['polytask', *again])}"


def at(jobs: Sequence[Job]) -> str:
    """Where an interrupted run goes on: ``goes on at step 120 of 900 of 'spam'``."""
    if len(jobs) == 1:
        return f"goes on at step {jobs[0].step:,} of {jobs[0].num_steps:,} of {jobs[0].name!r}"
    furthest = max(job.step for job in jobs)
    return f"goes on with {len(jobs)} settings, the furthest at step {furthest:,} of {jobs[0].num_steps:,}"


def stored_already(adapters: Store, adapter: Adapter) -> Entry | None:
    """The version of the task that is this adapter: of a run that was killed after it had stored it."""
    task = adapter.header.task
    try:
        versions = [f"{task}@{version}" for version in reversed(adapters.versions(task))]
    except NoSuchAdapter:
        return None
    alike = (entry for entry in map(adapters.entry, versions) if entry.header.recipe == adapter.header.recipe)
    return next((e for e in alike if adapters.get(str(e)).tensor_digest == adapter.tensor_digest), None)


def clear(kept: Checkpoint) -> None:
    """The adapter is in the store: nothing else is needed."""
    kept.remove()
    former(kept).unlink(missing_ok=True)


def tidy(kept: Checkpoint) -> None:
    """Leave no empty folder."""
    from polytask.adapters.store import TRAINING

    if kept.path.parent.name == TRAINING:
        with suppress(OSError):  # another run is at work
            kept.path.parent.rmdir()


@contextmanager
def watched(out: Console, log: str | None) -> Iterator[Progress]:
    """A ``progress`` that shows, and logs if it is asked to."""
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


def summary(entry: Entry, adapter: Adapter, result: Result) -> dict[str, Any]:
    """What ``train --json`` prints."""
    scores = result.to_json()
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
    }
