"""Sweeps: trains one task with many recipes and stores each result, so that a killed sweep can be continued.

A sweep's folder holds, for each recipe by its key::

    <key>.safetensors   its adapter; missing if training diverged
    <key>.json          the recipe and its result; written last, so a run is finished if it exists
    .sweep.ckpt.lock    locked while a sweep is running
    sweep.ckpt          the state of unfinished runs

A run that diverges is stored as a result, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from polytask.adapters.module import LoadedAdapter
from polytask.backbones.backbone import Backbone
from polytask.data.encoding import Encodings
from polytask.data.task import Task
from polytask.errors import AdapterError, RecipeError
from polytask.evaluation.calibration_fit import FittedCalibration
from polytask.evaluation.none_of_these import DetectNone
from polytask.evaluation.thresholds import Goal
from polytask.file_lock import exclusive_run
from polytask.methods import Replacement
from polytask.training.calibration import measure_calibration
from polytask.training.checkpoint import Checkpoint, run_setting
from polytask.training.decision import NO_EXTRAS, Extras
from polytask.training.events import Evaluated, Failed
from polytask.training.finish import adapter_of, add_extras, finish_job
from polytask.training.fused import Outcome, measured_budget
from polytask.training.interrupt import deferred_interrupt
from polytask.training.job import Job
from polytask.training.loop import run_jobs
from polytask.training.recipe import Recipe, takes_recipe
from polytask.training.scoring import score_with_interval, test_scores
from polytask.training.start import Start, StartFrom, start_from
from polytask.training.sweep_files import CHECKPOINT, SweepFolder, check_same_sweep, checkpoint_header, identity_of
from polytask.training.sweep_result import Kept, Progress, Run, Sweep, best_run_of, by_setting

Train = Callable[[Mapping[str, tuple[Task, Recipe]], Progress], Iterator[tuple[str, Outcome]]]
"""Trains jobs elsewhere; yields the name and outcome of each as soon as it is finished."""


@takes_recipe
def sweep(
    backbone: Backbone,
    task: Task,
    recipes: Sequence[Recipe],
    *,
    folder: str | Path | None = None,
    progress: Progress | None = None,
    budget_tokens: int | None = None,
    test: Literal["best", "all"] = "best",
    goal: Goal | None = None,
    none: DetectNone | None = None,
    probe: bool = False,
    train: Train | None = None,
    start: StartFrom = None,
) -> Sweep:
    """Train one task with many recipes, each exactly as ``train`` would.

    Recipes with deltas train together in shared steps; recipes that train the backbone itself follow one by one.

    Args:
        backbone: a frozen backbone.
        task: rows to train on and to validate with.
        recipes: different recipes, for example from ``grid``.
        folder: where results, adapters and a checkpoint are stored. A second call with the same folder trains only what
            is missing, and may have more recipes.
        progress: called with each ``Step``, ``Evaluated`` and ``Failed``, whose ``job`` is the recipe's key, and with
            ``Kept`` when a run is finished.
        budget_tokens: the most tokens of a step, all runs together. Runs that do not fit wait. None: measured, as in
            ``train_many``.
        test: which runs are scored on the test rows: the ``best`` by validation, or ``all``. Test scores are stored
            with the results and choose nothing.
        goal, none, probe: as in ``train``, for the adapter of the best run; the folder's files are as without them.
        train: trains the runs elsewhere, such as on a cluster (``launch.training.train_in_packs`` without test scores).
            Runs that it has not finished start over in the next sweep.
        start: as in ``train``, for all runs that are trained here.

    Returns:
        All runs, including those found in ``folder``, and the adapter of the best one.

    Raises:
        RecipeError: there is no recipe, a recipe is given twice, or one does not fit the backbone.
        CheckpointError: ``folder`` belongs to another task or backbone, a file in it cannot be read, or another sweep
            is running in it.
        KeyboardInterrupt: on Ctrl-C, after everything is stored.
    """
    if test not in ("best", "all"):
        raise RecipeError(f"test={test!r} is out of range. Give 'best' or 'all'")
    task, extras = Extras(goal, none, probe).prepared(task)
    asked = _distinct(settled(backbone, task, recipes))
    report: Progress = progress or (lambda event: None)
    encodings, own_start = Encodings(backbone.tokenizer), start_from(start)
    with _folder_or_temporary(folder) as place, _lock(Path(place), task):
        results = SweepFolder(Path(place), identity_of(backbone, task, own_start))
        runs = {key: run for key, recipe in asked.items() if (run := results.read(recipe)) is not None}
        for key, run in runs.items():
            report(Kept(key, run))
        missing = [recipe for key, recipe in asked.items() if key not in runs]
        checkpoint = None if folder is None else Checkpoint(Path(folder) / CHECKPOINT)
        if train is not None:
            runs |= {run.key: run for run in _trained_elsewhere(train, task, missing, results, report)}
            missing = []
        for together in _training_groups(missing):
            jobs = [Job(backbone, task, recipe, recipe.key, encodings, own_start) for recipe in together]
            if checkpoint is not None:
                _resume(checkpoint, results.identity, backbone, task, jobs, own_start)
            for run in _train_and_save(backbone, jobs, results, checkpoint, report, budget_tokens):
                runs[run.key] = run
        ordered = by_setting([runs[key] for key in asked])
        every = [run for setting in ordered for run in setting.runs]
        best = [best_run_of(every)] if any(run.result for run in every) else []
        for run in every if test == "all" else best:
            runs[run.key] = _with_test_score(backbone, task, run, results, encodings)
        adapter = results.adapter(best[0].key) if best else None
        ordered = by_setting([runs[key] for key in asked])
    if adapter is None or best[0].result is None or extras == NO_EXTRAS:
        return Sweep(task.metric, ordered, adapter)
    run = runs[best[0].key]
    assert run.result is not None, "the best run has a result"
    adapter, result = add_extras(backbone, task, adapter, run.result, extras)
    ordered = by_setting([replace(run, result=result) if key == run.key else runs[key] for key in asked])
    return Sweep(task.metric, ordered, adapter)


def settled(backbone: Backbone, task: Task, recipes: Sequence[Recipe]) -> list[Recipe]:
    """The same recipes with all defaults chosen; their keys name the runs of a sweep.

    Raises:
        RecipeError: a setting does not apply to the task's kind.
    """
    lengths = [min(recipe.max_length, backbone.max_length) for recipe in recipes]
    is_pre_norm = backbone.row.is_pre_norm
    fitted = [recipe.fitted(task.kind, length, is_pre_norm) for recipe, length in zip(recipes, lengths, strict=True)]
    return [recipe.resolved(len(task.train), task.kind) for recipe in fitted]


def _distinct(recipes: Sequence[Recipe]) -> dict[str, Recipe]:
    if not recipes:
        raise RecipeError("there is no recipe to sweep over. Give some, such as grid(Recipe(), lr=(1e-3, 3e-3))")
    asked: dict[str, Recipe] = {}
    for recipe in recipes:
        if recipe.key in asked:
            raise RecipeError(f"a recipe is given twice: {recipe}. Give each once, or with different seeds")
        asked[recipe.key] = recipe
    return asked


def _folder_or_temporary(folder: str | Path | None) -> AbstractContextManager[str | Path]:
    return nullcontext(folder) if folder is not None else TemporaryDirectory(prefix="polytask-sweep-")


def _lock(place: Path, task: Task) -> AbstractContextManager[None]:
    return exclusive_run(place / CHECKPOINT, f"a sweep of {task.name!r} in {place}", "give this one another folder")


def _training_groups(recipes: Sequence[Recipe]) -> list[list[Recipe]]:
    """Recipes that train together. Those with private copies of the backbone train one by one, to save memory."""
    together = [recipe for recipe in recipes if not isinstance(recipe.method, Replacement)]
    alone = [[recipe] for recipe in recipes if isinstance(recipe.method, Replacement)]
    return [together, *alone] if together else alone


def _trained_elsewhere(
    train: Train, task: Task, recipes: Sequence[Recipe], results: SweepFolder, report: Progress
) -> Iterator[Run]:
    """Train jobs elsewhere; store, report and yield each run when it comes back."""
    asked = {recipe.key: (task, recipe) for recipe in recipes}
    for key, outcome in train(asked, report):
        recipe = asked[key][1]
        run = Run(recipe, None, str(outcome)) if isinstance(outcome, RecipeError) else Run(recipe, outcome[1])
        results.write(run, None if isinstance(outcome, RecipeError) else outcome[0])
        report(Kept(key, run))
        yield run


def _train_and_save(
    backbone: Backbone,
    jobs: Sequence[Job],
    results: SweepFolder,
    checkpoint: Checkpoint | None,
    report: Progress,
    budget_tokens: int | None,
) -> Iterator[Run]:
    """Train jobs to the end; store, report and yield each run when it is finished."""
    pending = {job.name: job for job in jobs}

    def save(job: Job) -> Run:
        del pending[job.name]
        run = _save(backbone, job, results)
        report(Kept(job.name, run))
        return run

    yield from [save(job) for job in jobs if job.is_done]  # the last sweep was killed after their last step
    if budget_tokens is None and pending:
        budget_tokens = measured_budget(backbone, list(pending.values()))
    running = closing(run_jobs(backbone, list(pending.values()), budget_tokens=budget_tokens))
    with deferred_interrupt() as interrupted, running as events:
        for event in events:
            report(event)
            if isinstance(event, Evaluated | Failed) and pending[event.job].is_done:
                yield save(pending[event.job])
            if checkpoint is not None and pending:
                write = checkpoint.write if interrupted() else checkpoint.write_if_due
                write(backbone, list(pending.values()))
            if interrupted():
                raise KeyboardInterrupt
    if checkpoint is not None:
        checkpoint.remove()


def _save(backbone: Backbone, job: Job, results: SweepFolder) -> Run:
    """Store the outcome of a finished job."""
    run, adapter = Run(job.recipe, None, str(job.failure)), None
    if job.failure is None:
        job.restore_best()
        try:
            adapter, result = finish_job(backbone, job, with_test=False)
            run = Run(job.recipe, result)
        except AdapterError as error:  # the last step made a parameter NaN or infinite
            run = Run(job.recipe, None, str(error))
    results.write(run, adapter)
    return run


def _with_test_score(backbone: Backbone, task: Task, run: Run, results: SweepFolder, encodings: Encodings) -> Run:
    """The run with its score on the test rows, which is stored as well."""
    if task.test is None or task.test.targets is None or run.result is None or run.result.test is not None:
        return run
    adapter = results.adapter(run.key)
    job = Job(backbone, task, run.recipe, run.key, encodings)
    job.live = LoadedAdapter.from_adapter(backbone, adapter)
    on_test = test_scores(backbone, job)
    assert on_test is not None, "there are test rows with labels"
    before = FittedCalibration(job.live.decision.calibration, tuple((run.result.calibration or {}).get("notes", ())))
    calibration = measure_calibration(task, before, (), on_test)
    result = replace(run.result, test=score_with_interval(job, task.test, on_test), calibration=calibration)
    tested = Run(run.recipe, result)
    results.write(tested, adapter_of(backbone, adapter.tensors, task, result, adapter.header.decides))
    return tested


def _resume(
    checkpoint: Checkpoint,
    identity: Mapping[str, Any],
    backbone: Backbone,
    task: Task,
    jobs: Sequence[Job],
    start: Start | None,
) -> None:
    """Restore the jobs in the checkpoint."""
    header = checkpoint_header(checkpoint)
    ours = {job.name: job for job in jobs}
    if header is None or not ours.keys() & header["setting"]["jobs"].keys():
        return
    held = header["setting"]["jobs"]
    now = run_setting(backbone, ())
    kept = {**header["setting"], "data": next(iter(held.values()))["data"]}
    names = [name for name in now if name not in ("jobs", "threads")]
    check_same_sweep(checkpoint.path, kept, {**{name: now[name] for name in names}, "data": identity["data"]})
    others = {name: Recipe.from_json(of["recipe"]) for name, of in held.items() if name not in ours}
    finished_since = {name: Job(backbone, task, recipe, name, start=start) for name, recipe in others.items()}
    checkpoint.load(backbone, [ours.get(name) or finished_since[name] for name in held])
