"""``polytask train a.csv b.csv c.csv``, or a folder: trains several tasks in one fused pass, an adapter for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer
from rich.text import Text

from polytask.cli import console, wording
from polytask.cli.options import INTERRUPTED, USER_ERROR, error_exit, print_json
from polytask.cli.progress_table import live_progress_table
from polytask.errors import DataError, PolytaskError, RecipeError

if TYPE_CHECKING:
    from rich.table import Table

    from polytask.adapters.store import Entry
    from polytask.backbones.backbone import Backbone
    from polytask.cli.launch_options import LaunchOptions
    from polytask.cli.option_groups import BackboneOptions
    from polytask.data.task import Task
    from polytask.training.decision import Extras
    from polytask.training.recipe import Recipe
    from polytask.training.result import Result
    from polytask.training.start import Start
    from polytask.training.to_store import StoredRun

    Jobs: TypeAlias = Mapping[str, tuple[Task, Recipe]]
    Runs: TypeAlias = Mapping[str, StoredRun | RecipeError]

SourceFiles = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[FILE]...",
        help="Training data: CSV, TSV, JSON lines (also .gz) or Parquet; for spans also SQuAD's JSON. Several files, "
        "or a folder: one task per file, all trained in one pass.",
        show_default=False,
    ),
]
SPLITS = frozenset("train training validation valid val dev test".split())
"""File names that suggest a split of one task."""


def files_in(given: Sequence[str] | None) -> list[str]:
    """The given files, with a folder replaced by the files in it, sorted by name.

    Raises:
        DataError: a folder has no data files, or its files look like the splits of one task.
    """
    from polytask.data.formats import SUFFIXES, stem

    files: list[str] = []
    for name in given or ():
        if not Path(name).is_dir():
            files.append(name)
            continue
        found = sorted(str(path) for path in Path(name).iterdir() if path.name.lower().endswith(SUFFIXES))
        if not found:
            raise DataError("the folder has no file of rows", file=name, fix=f"Supported are: {', '.join(SUFFIXES)}")
        if splits := [path for path in found if stem(path).lower() in SPLITS]:
            fix = f"Name them: polytask train {splits[0]} --task NAME --validation FILE --test FILE"
            raise DataError(
                f"{Path(splits[0]).name} looks like a split of one task, not a task of its own", file=name, fix=fix
            )
        files += found
    return files


def check_single_task_options(options: Mapping[str, object]) -> None:
    """Refuse options that apply to a single task.

    Raises:
        PolytaskError: one of them is given.
    """
    for option, value in options.items():
        if value:
            raise PolytaskError(
                f"{option} applies to one task, and several files are given. Train that task on its own"
            )


def train_files(
    tasks: Sequence[Task],
    recipe: Recipe,
    model: BackboneOptions,
    store: str,
    launch: LaunchOptions,
    extras: Extras,
    start: str | list[str] | None,
    *,
    checkpoint: str | None,
    resume: bool,
    as_json: bool,
    command: Sequence[str],
) -> None:
    """Train the tasks at once, put the adapters in the store, and print the outcomes.

    Args:
        command: the arguments of this run, to print the command that continues it.

    Raises:
        CheckpointError: the checkpoint belongs to another run.
    """
    from polytask.cli.train import how_to_resume
    from polytask.training.to_store import checkpoint_path, interrupted_setting

    path = Path(checkpoint or checkpoint_path(store, *(task.name for task in tasks)))
    model = model.resuming(interrupted_setting(path)) if resume else model
    jobs = {task.name: (task, recipe) for task in tasks}
    metrics = {task.metric for task in tasks}
    err = console.terminal(stderr=True)
    try:
        metric = metrics.pop() if len(metrics) == 1 else "score"
        with live_progress_table(err, {name: name for name in jobs}, metric) as shown:
            backbone = model.load()
            runs = (
                trained_remotely(launch, backbone, jobs, store, shown, extras, start)
                if launch.is_remote
                else trained_here(
                    backbone, jobs, store, shown, checkpoint=checkpoint, resume=resume, start=start, **vars(extras)
                )
            )
    except KeyboardInterrupt:
        advice = (
            "interrupted; the finished adapters are in the store" if launch.is_remote else how_to_resume(path, command)
        )
        raise error_exit(advice, INTERRUPTED) from None
    show_runs(runs, tasks, as_json=as_json)


def trained_here(backbone: Backbone, jobs: Jobs, store: str, progress: Any, **how: Any) -> Runs:
    """Train in one fused pass, with a checkpoint."""
    from polytask.training.to_store import train_many_to_store

    def notify(note: str) -> None:
        console.notes(console.terminal(stderr=True), [note])

    return train_many_to_store(backbone, jobs, store, progress=progress, notify=notify, **how)


def trained_remotely(
    launch: LaunchOptions,
    backbone: Backbone,
    jobs: Jobs,
    store: str,
    progress: Any,
    extras: Extras,
    start: str | list[str] | None,
) -> Runs:
    """Train on a cluster; store each adapter as soon as it comes back."""
    from polytask.adapters.store import Store
    from polytask.training.to_store import StoredRun

    runs: dict[str, StoredRun | RecipeError] = {}
    starts = starts_on_this_machine(backbone, jobs, store, extras, start)
    for name, outcome in launch.train(backbone, jobs, progress, extras=extras, start=starts):
        if isinstance(outcome, RecipeError):
            runs[name] = outcome
        else:
            runs[name] = StoredRun(Store(store).put(outcome[0]), *outcome)
    return {name: runs[name] for name in jobs}


def starts_on_this_machine(
    backbone: Backbone, jobs: Jobs, store: str, extras: Extras, start: str | list[str] | None
) -> dict[str, Start | None]:
    """What each job starts from; with ``auto``, a trial on this machine chooses it."""
    from polytask.adapters.store import Store
    from polytask.training.start_trial import start_or_trial

    return {
        name: start_or_trial(start, Store(store), backbone, extras.prepared(task)[0], recipe)[0]
        for name, (task, recipe) in jobs.items()
    }


def show_runs(runs: Runs, tasks: Sequence[Task], *, as_json: bool) -> None:
    """Print the adapters that were stored, and exit with 2 if a task diverged."""
    errors = {name: str(run) for name, run in runs.items() if isinstance(run, RecipeError)}
    stored = [run for run in runs.values() if not isinstance(run, RecipeError)]
    if as_json:
        show_json(stored, errors)
    else:
        console.terminal().print(results_table([(run.entry, run.result) for run in stored], tasks))
    if errors:
        raise error_exit("; ".join(errors.values()), USER_ERROR)


def check_names(names: Sequence[str], files: Sequence[str]) -> None:
    """Refuse two tasks with the same name, because they would become versions of one adapter.

    Raises:
        DataError: two names are equal; the message names the files.
    """
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        alike = " and ".join(file for file, own in zip(files, names) if own == name)
        raise DataError(
            f"{alike} give tasks with the same name, {name!r}", fix="Rename a file, or train it with --task NAME"
        )


def show_json(stored: Sequence[StoredRun], errors: Mapping[str, str]) -> None:
    """Print a line for each task: the JSON of ``train --json``, or its error."""
    from polytask.cli.train import run_to_json

    for run in stored:
        print_json(run_to_json(run.entry, run.adapter, run.result, run.chosen))
    for task, error in errors.items():
        print_json({"task": task, "error": error})


def results_table(stored: Sequence[tuple[Entry, Result]], tasks: Sequence[Task]) -> Table:
    """A line for each adapter: its validation score next to that of the majority class."""
    from polytask.evaluation.baselines import majority

    rows = {task.name: task for task in tasks}
    table = console.grid(
        "adapter", "kind", "rows", "score", "probe", "majority", "size", right=("rows", "probe", "majority", "size")
    )
    for entry, result in stored:
        task = rows[entry.task]
        least = majority(task, task.validation)
        table.add_row(
            Text(str(entry), style="bold"),
            task.kind if not task.labels else wording.counted(len(task.labels), "label"),
            f"{len(task.train):,}",
            f"{entry.metric} {result.validation.score:.3f}",
            "" if "score" not in (result.probe or {}) else f"{(result.probe or {})['score']:.3f}",
            "" if least is None else f"{least.score:.3f}",
            wording.bytes_in_words(entry.size_bytes),
        )
    return table
