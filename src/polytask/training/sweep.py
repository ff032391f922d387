"""Many recipes on one task in one process, each result kept as it comes: a sweep that is killed runs what is missing.

A folder holds, for each recipe by its key::

    <key>.safetensors   its adapter; none where it diverged
    <key>.json          the recipe and what came of it; written last, so a run is over when it is there
    .sweep.ckpt.lock    there while a sweep is at work
    sweep.ckpt          how far the runs under way are

Unusual here: a run that diverges is a result like any other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
from polytask.evaluation.calibration_fit import Fitted
from polytask.file_lock import exclusive_run
from polytask.methods import Replacement
from polytask.training.calibrate import measured
from polytask.training.checkpoint import Checkpoint
from polytask.training.checkpoint import setting as run_setting
from polytask.training.events import Evaluated, Failed
from polytask.training.finish import adapter_of, finished
from polytask.training.fused import measured_budget
from polytask.training.interrupt import deferred_interrupt
from polytask.training.job import Job
from polytask.training.loop import run_jobs
from polytask.training.recipe import Recipe
from polytask.training.scoring import score_with_interval, test_scores
from polytask.training.sweep_files import CHECKPOINT, SweepFolder, check_same_sweep, checkpoint_header, identity_of
from polytask.training.sweep_result import Kept, Progress, Run, Sweep, best_run_of, by_setting


def sweep(
    backbone: Backbone,
    task: Task,
    recipes: Sequence[Recipe],
    *,
    folder: str | Path | None = None,
    progress: Progress | None = None,
    budget_tokens: int | None = None,
    test: Literal["best", "all"] = "best",
) -> Sweep:
    """Train one task by many recipes at once, each exactly as ``train`` alone would.

    Recipes whose method adds deltas share their steps; those that train the backbone itself follow one by one.

    Args:
        backbone: a frozen backbone.
        task: rows to train on and to validate with.
        recipes: distinct ones, such as ``grid`` makes.
        folder: keeps every result and adapter as it comes, and how far the others are. Called again with this folder,
            a sweep trains only what is missing; more recipes may be asked for then.
        progress: called with each ``Step``, ``Evaluated`` and ``Failed``, whose jobs are the recipes' keys, and with
            ``Kept`` when a run is over.
        budget_tokens: tokens of one step, all runs together; what does not fit waits its turn. Unless given it is
            measured, as in ``train_many``.
        test: whose test rows are scored: those of the ``best`` run by validation, or of ``all``. The scores choose
            nothing, and are kept with the results.

    Returns:
        All runs, those found in ``folder`` included, and the best one's adapter.

    Raises:
        RecipeError: there is no recipe, one is there twice, or one does not suit the backbone.
        CheckpointError: ``folder`` belongs to another task or backbone, a file in it cannot be read, or another sweep
            is at work in it.
        KeyboardInterrupt: on Ctrl-C, after everything is kept.
    """
    if test not in ("best", "all"):
        raise RecipeError(f"test={test!r} is out of range. Give 'best' or 'all'")
    asked = _distinct(settled(backbone, task, recipes))
    tell: Progress = progress or (lambda event: None)
    encodings = Encodings(backbone.tokenizer)
    with _place(folder) as place, _alone(Path(place), task):
        results = SweepFolder(Path(place), identity_of(backbone, task))
        runs = {key: run for key, recipe in asked.items() if (run := results.read(recipe)) is not None}
        for key, run in runs.items():
            tell(Kept(key, run))
        missing = [recipe for key, recipe in asked.items() if key not in runs]
        checkpoint = None if folder is None else Checkpoint(Path(folder) / CHECKPOINT)
        for together in _sharing(missing):
            jobs = [Job(backbone, task, recipe, recipe.key, encodings) for recipe in together]
            if checkpoint is not None:
                _go_on(checkpoint, results.identity, backbone, task, jobs)
            for run in _trained(backbone, jobs, results, checkpoint, tell, budget_tokens):
                runs[run.key] = run
        ordered = by_setting([runs[key] for key in asked])
        every = [run for setting in ordered for run in setting.runs]
        best = [best_run_of(every)] if any(run.result for run in every) else []
        for run in every if test == "all" else best:
            runs[run.key] = _tested(backbone, task, run, results, encodings)
        adapter = results.adapter(best[0].key) if best else None
        ordered = by_setting([runs[key] for key in asked])
    return Sweep(task.metric, ordered, adapter)


def settled(backbone: Backbone, task: Task, recipes: Sequence[Recipe]) -> list[Recipe]:
    """The same recipes with nothing left to choose: those whose keys a sweep's runs have.

    Raises:
        RecipeError: one has a setting that the task has no use for.
    """
    lengths = [min(recipe.max_length, backbone.max_length) for recipe in recipes]
    fitted = [recipe.fitted(task.kind, length) for recipe, length in zip(recipes, lengths, strict=True)]
    return [recipe.resolved(len(task.train)) for recipe in fitted]


def _distinct(recipes: Sequence[Recipe]) -> dict[str, Recipe]:
    if not recipes:
        raise RecipeError("there is no recipe to sweep over. Give some, such as grid(Recipe(), lr=(1e-3, 3e-3))")
    asked: dict[str, Recipe] = {}
    for recipe in recipes:
        if recipe.key in asked:
            raise RecipeError(f"a recipe is there twice: {recipe}. Give each once, with a seed of its own")
        asked[recipe.key] = recipe
    return asked


def _place(folder: str | Path | None) -> AbstractContextManager[str | Path]:
    return nullcontext(folder) if folder is not None else TemporaryDirectory(prefix="polytask-sweep-")


def _alone(place: Path, task: Task) -> AbstractContextManager[None]:
    return exclusive_run(place / CHECKPOINT, f"a sweep of {task.name!r} in {place}", "give this one another folder")


def _sharing(recipes: Sequence[Recipe]) -> list[list[Recipe]]:
    """Recipes whose jobs train together. Each private copy of a backbone trains by itself, to be one in memory."""
    together = [recipe for recipe in recipes if not isinstance(recipe.method, Replacement)]
    alone = [[recipe] for recipe in recipes if isinstance(recipe.method, Replacement)]
    return [together, *alone] if together else alone


def _trained(
    backbone: Backbone,
    jobs: Sequence[Job],
    results: SweepFolder,
    checkpoint: Checkpoint | None,
    tell: Progress,
    budget_tokens: int | None,
) -> Iterator[Run]:
    """Train jobs to their ends; each is kept, told of and yielded when it is over."""
    pending = {job.name: job for job in jobs}

    def kept(job: Job) -> Run:
        del pending[job.name]
        run = _keep(backbone, job, results)
        tell(Kept(job.name, run))
        return run

    yield from [kept(job) for job in jobs if job.is_done]  # killed after their last step
    if budget_tokens is None and pending:
        budget_tokens = measured_budget(backbone, list(pending.values()))
    running = closing(run_jobs(backbone, list(pending.values()), budget_tokens=budget_tokens))
    with deferred_interrupt() as interrupted, running as events:
        for event in events:
            tell(event)
            if isinstance(event, Evaluated | Failed) and pending[event.job].is_done:
                yield kept(pending[event.job])
            if checkpoint is not None and pending:
                write = checkpoint.write if interrupted() else checkpoint.write_if_due
                write(backbone, list(pending.values()))
            if interrupted():
                raise KeyboardInterrupt
    if checkpoint is not None:
        checkpoint.remove()


def _keep(backbone: Backbone, job: Job, results: SweepFolder) -> Run:
    """What came of a job that is over, on the disk."""
    run, adapter = Run(job.recipe, None, str(job.failure)), None
    if job.failure is None:
        job.restore_best()
        try:
            adapter, result = finished(backbone, job, with_test=False)
            run = Run(job.recipe, result)
        except AdapterError as error:  # the last step left no numbers
            run = Run(job.recipe, None, str(error))
    results.write(run, adapter)
    return run


def _tested(backbone: Backbone, task: Task, run: Run, results: SweepFolder, encodings: Encodings) -> Run:
    """The run with its score on the test rows, on the disk too."""
    if task.test is None or task.test.targets is None or run.result is None or run.result.test is not None:
        return run
    adapter = results.adapter(run.key)
    job = Job(backbone, task, run.recipe, run.key, encodings)
    job.live = LoadedAdapter.from_adapter(backbone, adapter)
    on_test = test_scores(backbone, job)
    assert on_test is not None, "there are test rows with labels"
    before = Fitted(job.live.decision.calibration, tuple((run.result.calibration or {}).get("notes", ())))
    calibration = measured(task, before, (), on_test)
    result = replace(run.result, test=score_with_interval(job, task.test, on_test), calibration=calibration)
    tested = Run(run.recipe, result)
    results.write(tested, adapter_of(backbone, adapter.tensors, task, result, adapter.header.decides))
    return tested


def _go_on(
    checkpoint: Checkpoint, identity: Mapping[str, Any], backbone: Backbone, task: Task, jobs: Sequence[Job]
) -> None:
    """Take those jobs that the checkpoint holds to where it left them."""
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
    also = {name: Job(backbone, task, recipe, name) for name, recipe in others.items()}  # over since it was written
    checkpoint.load(backbone, [ours.get(name) or also[name] for name in held])
