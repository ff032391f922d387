"""Many recipes on one task in one process, each result kept as it comes: a sweep that is killed runs what is missing.

A folder holds, for each recipe by its key::

    <key>.safetensors   its adapter; none where it diverged
    <key>.json          the recipe and what came of it; written last, so a run is over when it is there
    .sweep.ckpt.lock    there while a sweep is at work
    sweep.ckpt          how far the runs under way are

Unusual here: a run that diverges is a result like any other.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from polytask.adapter import Adapter
from polytask.atomic import write_text
from polytask.backbones import Backbone
from polytask.errors import AdapterError, CheckpointError, PolytaskError, RecipeError
from polytask.live import LiveAdapter
from polytask.methods import Replacement
from polytask.tasks.batches import Encodings
from polytask.tasks.task import Task
from polytask.train.checkpoint import Checkpoint, differences
from polytask.train.checkpoint import setting as run_setting
from polytask.train.fused import measured_budget
from polytask.train.grid import SEED, varying
from polytask.train.job import Job
from polytask.train.loop import Evaluated, Event, Failed, adapter_of, deferred_interrupt, finished, scored_on_test
from polytask.train.loop import run as run_jobs
from polytask.train.only import alone
from polytask.train.recipe import Recipe
from polytask.train.result import Result

FORMAT = 1
CHECKPOINT = "sweep.ckpt"
KEY_LENGTH = 16


@dataclass(frozen=True)
class Run:
    """A recipe, nothing left to choose in it, and what came of it: a result, or why it diverged."""

    recipe: Recipe
    result: Result | None
    failure: str | None = None

    @property
    def key(self) -> str:
        """The recipe's: its job's name and the name of its files."""
        return self.recipe.key

    @property
    def status(self) -> Literal["finished", "diverged"]:
        """How it ended."""
        return "diverged" if self.result is None else "finished"

    @property
    def score(self) -> float | None:
        """On the validation rows."""
        return None if self.result is None else self.result.validation.score


@dataclass(frozen=True)
class Kept:
    """A run is over and kept, now or by a sweep before this one. ``job`` is its recipe's key."""

    job: str
    run: Run


Progress = Callable[[Event | Kept], None]


@dataclass(frozen=True)
class Setting:
    """Runs that differ in nothing but the seed. ``values`` are the settings that vary in their sweep."""

    values: dict[str, Any]
    runs: tuple[Run, ...]

    @property
    def scores(self) -> list[float]:
        """On the validation rows, one a run that did not diverge."""
        return [run.score for run in self.runs if run.score is not None]

    @property
    def mean(self) -> float | None:
        """Of the scores; None where all runs diverged."""
        return statistics.fmean(self.scores) if self.scores else None

    @property
    def sem(self) -> float | None:
        """The standard error of the mean; None for less than two scores."""
        return statistics.stdev(self.scores) / len(self.scores) ** 0.5 if len(self.scores) > 1 else None

    @property
    def num_diverged(self) -> int:
        """Runs without a score."""
        return len(self.runs) - len(self.scores)


@dataclass(frozen=True)
class Sweep:
    """What came of a sweep: its settings, the best mean first, those with a diverged run after those without."""

    metric: str
    settings: tuple[Setting, ...]
    adapter: Adapter | None

    @property
    def runs(self) -> list[Run]:
        """All runs, the best setting's first."""
        return [run for setting in self.settings for run in setting.runs]

    @property
    def best_run(self) -> Run:
        """The run with the highest validation score; of equal ones, that of the better setting.

        Raises:
            RecipeError: all diverged.
        """
        return _best(self.runs)

    @property
    def best(self) -> Adapter:
        """The adapter of the best run.

        Raises:
            RecipeError: all diverged.
        """
        if self.adapter is None:
            raise _all_diverged(self.runs)
        return self.adapter

    def table(self) -> list[dict[str, Any]]:
        """One row a setting: what varies, ``score`` (the mean), ``sem``, ``runs``, ``diverged``, ``parameters``."""
        return [
            {
                **setting.values,
                "score": setting.mean,
                "sem": setting.sem,
                "runs": len(setting.runs),
                "diverged": setting.num_diverged,
                "parameters": next((r.result.parameters["trained"] for r in setting.runs if r.result), None),
            }
            for setting in self.settings
        ]


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
        results = _Results(Path(place), _identity(backbone, task))
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
        best = [_best(every)] if any(run.result for run in every) else []
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


def by_setting(runs: Sequence[Run]) -> tuple[Setting, ...]:
    """Runs that differ in their seed only, side by side; the best mean first, with a diverged run after without."""
    names = varying([run.recipe for run in runs])
    groups: dict[str, list[Run]] = {}
    for run in runs:
        own = {name: value for name, value in run.recipe.settings().items() if name != SEED}
        groups.setdefault(json.dumps(own), []).append(run)
    found = []
    for group in groups.values():
        own = group[0].recipe.settings()
        found.append(Setting({name: own.get(name) for name in names}, tuple(group)))
    return tuple(sorted(found, key=_rank))


def _rank(setting: Setting) -> tuple[bool, float]:
    mean = setting.mean
    return setting.num_diverged > 0, float("inf") if mean is None else -mean


def _best(runs: Sequence[Run]) -> Run:
    scored = [run for run in runs if run.score is not None]
    if not scored:
        raise _all_diverged(runs)
    return max(scored, key=lambda run: run.score or 0.0)


def _all_diverged(runs: Sequence[Run]) -> RecipeError:
    return RecipeError(f"no run of the sweep has a result: all diverged, one of them so: {runs[0].failure}")


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
    return alone(place / CHECKPOINT, f"a sweep of {task.name!r} in {place}", "give this one another folder")


def _sharing(recipes: Sequence[Recipe]) -> list[list[Recipe]]:
    """Recipes whose jobs train together. Each private copy of a backbone trains by itself, to be one in memory."""
    together = [recipe for recipe in recipes if not isinstance(recipe.method, Replacement)]
    alone = [[recipe] for recipe in recipes if isinstance(recipe.method, Replacement)]
    return [together, *alone] if together else alone


def _trained(
    backbone: Backbone,
    jobs: Sequence[Job],
    results: _Results,
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


def _keep(backbone: Backbone, job: Job, results: _Results) -> Run:
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


def _tested(backbone: Backbone, task: Task, run: Run, results: _Results, encodings: Encodings) -> Run:
    """The run with its score on the test rows, on the disk too."""
    if task.test is None or task.test.targets is None or run.result is None or run.result.test is not None:
        return run
    adapter = results.adapter(run.key)
    job = Job(backbone, task, run.recipe, run.key, encodings)
    job.live = LiveAdapter.from_adapter(backbone, adapter)
    result = replace(run.result, test=scored_on_test(backbone, job))
    tested = Run(run.recipe, result)
    results.write(tested, adapter_of(backbone, adapter.tensors, task, result))
    return tested


def _go_on(
    checkpoint: Checkpoint, identity: Mapping[str, Any], backbone: Backbone, task: Task, jobs: Sequence[Job]
) -> None:
    """Take those jobs that the checkpoint holds to where it left them."""
    header = _header(checkpoint)
    ours = {job.name: job for job in jobs}
    if header is None or not ours.keys() & header["setting"]["jobs"].keys():
        return
    held = header["setting"]["jobs"]
    now = run_setting(backbone, ())
    kept = {**header["setting"], "data": next(iter(held.values()))["data"]}
    names = [name for name in now if name not in ("jobs", "threads")]
    _check_same(checkpoint.path, kept, {**{name: now[name] for name in names}, "data": identity["data"]})
    others = {name: Recipe.from_json(of["recipe"]) for name, of in held.items() if name not in ours}
    also = {name: Job(backbone, task, recipe, name) for name, recipe in others.items()}  # over since it was written
    checkpoint.load(backbone, [ours.get(name) or also[name] for name in held])


class _Results:
    """The results of one task on one backbone in a folder."""

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        self.folder, self.identity = folder, identity

    def read(self, recipe: Recipe) -> Run | None:
        """What came of a recipe; None where it is not over."""
        path = self.folder / f"{recipe.key}.json"
        if not path.exists():
            return None
        values = _parsed(path)
        _check_same(path, values["identity"], self.identity)
        is_whole = values["run"].result is None or self._adapter(recipe.key).exists()
        return values["run"] if is_whole else None

    def write(self, run: Run, adapter: Adapter | None) -> None:
        """Keep what came of a recipe."""
        if adapter is not None:
            adapter.save(self._adapter(run.key))
        values = {
            "format": FORMAT,
            "status": run.status,
            "identity": self.identity,
            "recipe": run.recipe.to_json(),
            "result": None if run.result is None else run.result.to_json(),
            "failure": run.failure,
        }
        write_text(self.folder / f"{run.key}.json", json.dumps(values, indent=1, allow_nan=False) + "\n")

    def adapter(self, key: str) -> Adapter:
        """What a finished run left."""
        return Adapter.load(self._adapter(key))

    def _adapter(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"


def started_with(folder: str | Path) -> dict[str, Any] | None:
    """What the sweep in a folder was started with: ``data``, ``backbone``, ``dtype``, …; None where there is none yet.

    Raises:
        CheckpointError: a file in it cannot be read.
    """
    for path in sorted(Path(folder).glob(f"{'[0-9a-f]' * KEY_LENGTH}.json")):
        return dict(_parsed(path)["identity"])
    header = _header(Checkpoint(Path(folder) / CHECKPOINT))
    return None if header is None else dict(header["setting"])


def _identity(backbone: Backbone, task: Task) -> dict[str, Any]:
    """What all runs of a folder share."""
    of = run_setting(backbone, ())
    names = ("backbone", "tokenizer", "pooling", "dtype", "device")
    return {"data": task.digest, **{name: of[name] for name in names}}


def _check_same(path: Path, kept: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to put runs of different things side by side, saying what differs."""
    changes = differences({name: kept.get(name) for name in now}, now)
    if changes:
        raise CheckpointError(
            f"{path} belongs to another sweep: {'; '.join(changes)}. "
            "Give another folder, go on with what that sweep was started with, or remove the file"
        )


def _parsed(path: Path) -> dict[str, Any]:
    """The ``run`` in a file, and the ``identity`` of its sweep."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        result = None if values["status"] == "diverged" else Result.from_json(values["result"])
        run = Run(Recipe.from_json(values["recipe"]), result, values["failure"])
        if values["format"] != FORMAT or run.key != path.stem:
            raise ValueError
        return {"run": run, "identity": dict(values["identity"])}
    except (ValueError, KeyError, TypeError) as error:
        why = f": {error}" if isinstance(error, PolytaskError) else ""
        fix = "Remove it to run its recipe again"
        raise CheckpointError(f"{path} is not a result of a sweep{why}. {fix}") from None


def _header(checkpoint: Checkpoint) -> dict[str, Any] | None:
    try:
        return checkpoint.header()
    except CheckpointError:
        raise CheckpointError(
            f"{checkpoint.path} is not a checkpoint that can be read. Remove it: what was under way starts over, "
            "what is over stays"
        ) from None
