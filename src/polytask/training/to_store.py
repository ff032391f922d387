"""Train or tune an adapter and put it in a store; an interrupted run can be resumed.

While a run lasts, its checkpoint is in the store's ``.training`` folder and is locked against other processes. The
checkpoint of an earlier interrupted run is kept aside until the new run has ended.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polytask.adapters.adapter import Adapter
from polytask.adapters.header import Header
from polytask.adapters.store import TRAINING, Entry, Store
from polytask.backbones.backbone import Backbone
from polytask.data.task import Task
from polytask.errors import CheckpointError, NoSuchAdapter, PolytaskWarning, RecipeError
from polytask.evaluation.none_of_these import DetectNone
from polytask.evaluation.thresholds import Goal
from polytask.file_lock import exclusive_run
from polytask.training.checkpoint import Checkpoint
from polytask.training.decision import Extras
from polytask.training.events import Progress
from polytask.training.fused import train_many
from polytask.training.job import Job
from polytask.training.loop import train
from polytask.training.multitask import train_multitask
from polytask.training.recipe import Recipe, takes_recipe
from polytask.training.result import Result
from polytask.training.start import Start, StartFrom, start_from
from polytask.training.start_trial import ChosenStart, start_or_trial
from polytask.training.tune import Progress as TuneProgress
from polytask.training.tune import Tuned, tune

Notify = Callable[[str], None]


@dataclass(frozen=True)
class StoredRun:
    """A trained adapter that is in a store.

    Attributes:
        entry: its version in the store.
        adapter: the adapter.
        result: scores, cost and environment of the training.
        tuned: the settings that were compared; None if the recipe was given.
        chosen: the starts that were compared; None unless ``start`` was ``auto``.
    """

    entry: Entry
    adapter: Adapter
    result: Result
    tuned: Tuned | None = None
    chosen: ChosenStart | None = None


@takes_recipe
def train_to_store(
    backbone: Backbone,
    task: Task,
    recipe: Recipe,
    store: str | Path,
    *,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    goal: Goal | None = None,
    none: DetectNone | None = None,
    probe: bool = False,
    start: StartFrom = None,
    progress: Progress | None = None,
    notify: Notify | None = None,
) -> StoredRun:
    """Train an adapter as ``train`` does and put it in a store as a new version.

    Args:
        backbone: a frozen backbone.
        task: rows to train on and to validate with.
        recipe: how to train.
        store: the store's folder, or its address for fsspec.
        checkpoint: a file for the state of the run (default: ``.training/TASK.ckpt`` in the store).
        resume: continue the run in ``checkpoint``, if there is one. A run whose adapter is stored already is not
            stored a second time.
        goal, none, probe: as in ``train``.
        start: as in ``train``, or names of adapters in the store, or ``auto``: a short trial chooses among the adapters
            of other tasks in the store and random weights (``choose_start``), at the cost of at most half a training.
        progress: called with each ``Step``, ``Evaluated`` and ``Failed``.
        notify: called with each remark about the checkpoint (default: a ``PolytaskWarning``).

    Raises:
        CheckpointError: the checkpoint belongs to another run or is not a checkpoint, or another process is training
            with it.
        RecipeError: a setting does not suit the task, or the training diverged.
        KeyboardInterrupt: on Ctrl-C, after the checkpoint is written.
    """
    with _checkpointed([task.name], store, checkpoint, resume, notify) as kept:
        how: dict[str, Any] = {"goal": goal, "none": none, "probe": probe}
        trial_task = Extras(**how).prepared(task)[0]
        own, chosen = start_or_trial(start, Store(store), backbone, trial_task, recipe, interrupted=_job(kept, resume))
        _tell_choice(chosen, notify)
        how |= {"start": own, "progress": progress, "checkpoint": kept, "resume": resume}
        adapter, result = train(backbone, task, recipe, **how)
        entry = _put(Store(store), adapter, resume)
    return StoredRun(entry, adapter, result, chosen=chosen)


@takes_recipe
def tune_to_store(
    backbone: Backbone,
    task: Task,
    base: Recipe,
    store: str | Path,
    *,
    size: Sequence[int] = (),
    checkpoint: str | Path | None = None,
    resume: bool = False,
    goal: Goal | None = None,
    none: DetectNone | None = None,
    probe: bool = False,
    start: StartFrom = None,
    progress: TuneProgress | None = None,
    notify: Notify | None = None,
) -> StoredRun:
    """Find learning rate and size as ``tune`` does and put the best adapter in a store as a new version.

    Args:
        base: all other settings. If it has a learning rate, only the size is searched.
        size: the sizes to try (default: those of ``tune``).
        progress: called with each ``Step``, ``Evaluated``, ``Failed`` and ``Left``.

    The other arguments and the errors are those of ``train_to_store``.
    """
    with _checkpointed([task.name], store, checkpoint, resume, notify) as kept:
        how: dict[str, Any] = {"goal": goal, "none": none, "probe": probe}
        trial_task = Extras(**how).prepared(task)[0]
        own, chosen = start_or_trial(start, Store(store), backbone, trial_task, base, interrupted=_job(kept, resume))
        _tell_choice(chosen, notify)
        how |= {"start": own, "progress": progress, "checkpoint": kept, "resume": resume}
        tuned = tune(backbone, task, base, size=size, **how)
        entry = _put(Store(store), tuned.adapter, resume)
    return StoredRun(entry, tuned.adapter, tuned.result, tuned, chosen)


def train_many_to_store(
    backbone: Backbone,
    jobs: Mapping[str, tuple[Task, Recipe]],
    store: str | Path,
    *,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    goal: Goal | None = None,
    none: DetectNone | None = None,
    probe: bool = False,
    start: StartFrom = None,
    progress: Progress | None = None,
    notify: Notify | None = None,
) -> dict[str, StoredRun | RecipeError]:
    """Train many adapters at once as ``train_many`` does and put each in a store as a new version.

    Args:
        jobs: tasks and recipes by name.
        checkpoint: a file for the state of all jobs (default: in ``.training`` of the store, named by the jobs).

    The other arguments and the errors are those of ``train_to_store``.

    Returns:
        By name, the stored adapter, or the error of a job that diverged.
    """
    with _checkpointed(list(jobs), store, checkpoint, resume, notify) as kept:
        how: dict[str, Any] = {"goal": goal, "none": none, "probe": probe}
        adapters, starts, chosen = Store(store), dict[str, Start | None](), dict[str, ChosenStart | None]()
        for name, (task, recipe) in jobs.items():
            of_job = (Extras(**how).prepared(task)[0], recipe)
            interrupted = _job(kept, resume, name)
            starts[name], chosen[name] = start_or_trial(start, adapters, backbone, *of_job, interrupted=interrupted)
            _tell_choice(chosen[name], notify, f"{name}: ")
        how |= {"start": starts, "progress": progress, "checkpoint": kept, "resume": resume}
        return {
            name: outcome
            if isinstance(outcome, RecipeError)
            else StoredRun(_put(adapters, outcome[0], resume), *outcome, chosen=chosen[name])
            for name, outcome in train_many(backbone, jobs, **how).items()
        }


def train_multitask_to_store(
    backbone: Backbone,
    tasks: Sequence[Task],
    recipe: Recipe,
    store: str | Path,
    *,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    start: StartFrom = None,
    progress: Progress | None = None,
    notify: Notify | None = None,
) -> dict[str, StoredRun]:
    """Train one adapter on several tasks as ``train_multitask`` does and store it for each task as a new version.

    Args:
        tasks: with different names.
        checkpoint: a file for the state of the run (default: in ``.training`` of the store, named by the tasks).
        start: adapters, or names of adapters in the store.

    The other arguments and the errors are those of ``train_to_store``.
    """
    with _checkpointed([task.name for task in tasks], store, checkpoint, resume, notify) as kept:
        how: dict[str, Any] = {"progress": progress, "checkpoint": kept, "resume": resume}
        outcomes = train_multitask(backbone, tasks, recipe, start=start_from(start, Store(store)), **how)
        adapters = Store(store)
        return {name: StoredRun(_put(adapters, own[0], resume), *own) for name, own in outcomes.items()}


def checkpoint_path(store: str | Path, *tasks: str) -> Path:
    """The default checkpoint of a run: in the store, or in the working directory if the store is not on a disk.

    For several tasks, its name consists of the first task, the number of others and a hash of all.
    """
    name = tasks[0]
    if len(tasks) > 1:
        name += f"+{len(tasks) - 1}-{hashlib.sha256(' '.join(tasks).encode()).hexdigest()[:8]}"
    return Path("" if "://" in str(store) else store, TRAINING, f"{name}.ckpt")


def interrupted_setting(path: str | Path) -> dict[str, Any] | None:
    """The setting of an interrupted run (``dtype``, ``device``, ``backbone``, …); None if there is no checkpoint.

    Raises:
        CheckpointError: the file is not a checkpoint.
    """
    header = Checkpoint(path).header()
    return None if header is None else dict(header.get("setting", {}))


def check_replaceable(path: str | Path) -> None:
    """Refuse to overwrite a file that is not a checkpoint.

    Raises:
        CheckpointError: the file exists and is something else.
    """
    try:
        Checkpoint(path).header()
    except CheckpointError:
        raise CheckpointError(
            f"{path} exists and is not a checkpoint, so it is not overwritten. Give --checkpoint another name"
        ) from None


def stored_version(store: Store, adapter: Adapter) -> Entry | None:
    """The newest version with this adapter's tensors, recipe and decisions; None if it was not stored before."""
    own = _settings_of(adapter.header)
    same = (entry for entry in _versions(store, adapter.header.task) if _settings_of(entry.header) == own)
    return next((e for e in same if store.get(str(e)).tensor_digest == adapter.tensor_digest), None)


def put_once(store: Store, adapter: Adapter) -> Entry:
    """The version of an adapter that was stored before, or a new one."""
    return stored_version(store, adapter) or store.put(adapter)


def _settings_of(header: Header) -> dict[str, Any]:
    """A header without what may differ between two runs of the same training: dates, seconds, versions of packages."""
    differs = ("created", "digest", "result", "versions")
    return {name: value for name, value in header.to_object().items() if name not in differs}


def _versions(store: Store, task: str) -> Iterator[Entry]:
    """All versions of a task, the newest first."""
    with suppress(NoSuchAdapter):
        for version in reversed(store.versions(task)):
            yield store.entry(f"{task}@{version}")


def _job(checkpoint: Checkpoint, resume: bool, name: str | None = None) -> Mapping[str, Any] | None:
    """What the checkpoint of a run that is resumed says about a job, or about the first one."""
    header = checkpoint.header() if resume else None
    jobs: dict[str, Any] = {} if header is None else header["setting"]["jobs"]
    return next(iter(jobs.values()), None) if name is None else jobs.get(name)


def _tell_choice(chosen: ChosenStart | None, notify: Notify | None, of: str = "") -> None:
    """Say which start a trial chose, and what it cost."""
    if chosen is not None and notify is not None:
        cost = f". The trial took {chosen.steps:,} steps" if chosen.steps else ""
        notify(f"{of}{chosen.why}{cost}")


def _put(store: Store, adapter: Adapter, resume: bool) -> Entry:
    """Store the adapter, unless a resumed run was killed after it had stored it."""
    return put_once(store, adapter) if resume else store.put(adapter)


@contextmanager
def _checkpointed(
    tasks: Sequence[str], store: str | Path, path: str | Path | None, resume: bool, notify: Notify | None
) -> Iterator[Checkpoint]:
    """A locked checkpoint for one run; removed when the run has ended, kept when it was interrupted."""
    tell = notify or _warn
    if path is not None and not resume:
        check_replaceable(path)
    file = checkpoint_path(store, *tasks) if path is None else Path(path)
    checkpoint = Checkpoint(file, resumed=lambda jobs: tell(_resumed_at(jobs)))
    named = ", ".join(map(repr, tasks))
    with exclusive_run(file, f"training {named} with {file}", "give this one a --checkpoint of its own"):
        if resume and not file.exists():
            tell(f"there is no checkpoint {file}; the training starts from the beginning")
        elif not resume and file.exists():
            file.replace(_former(file))
            whose = "this task" if len(tasks) == 1 else "these tasks"
            tell(
                f"an interrupted run of {whose} was found. Pass --resume to continue it. Until this new run ends, "
                f"its checkpoint is kept as {_former(file)}"
            )
        yield checkpoint
        checkpoint.remove()
        _former(file).unlink(missing_ok=True)
    if file.parent.name == TRAINING:
        with suppress(OSError):  # the folder holds the checkpoint of another run
            file.parent.rmdir()


def _former(checkpoint: Path) -> Path:
    """The name under which an earlier checkpoint is kept aside."""
    return checkpoint.with_name(f"{checkpoint.name}.old")


def _resumed_at(jobs: Sequence[Job]) -> str:
    """``resumed 'spam' at step 120 of 900``."""
    if len(jobs) == 1:
        return f"resumed {jobs[0].name!r} at step {jobs[0].step:,} of {jobs[0].num_steps:,}"
    furthest = max(job.step for job in jobs)
    num_steps = max(job.num_steps for job in jobs)
    return f"resumed {len(jobs)} jobs, the furthest at step {furthest:,} of {num_steps:,}"


def _warn(remark: str) -> None:
    warnings.warn(remark, PolytaskWarning, stacklevel=2)
