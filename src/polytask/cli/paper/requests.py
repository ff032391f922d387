"""Turns the options of ``polytask paper`` into trials, a budget, a launcher and devices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from polytask.cli import console, wording
from polytask.cli.options import load_backbone, spinner
from polytask.cli.paper.arguments import EditionOptions, LaunchOptions
from polytask.errors import DataError, PolytaskError

if TYPE_CHECKING:
    from polytask.backbones.backbone import Backbone
    from polytask.launch.pace import Pace
    from polytask.paper.cost import Costs
    from polytask.paper.edition import Edition
    from polytask.paper.ledger import Entry, Ledger, Trial
    from polytask.paper.run import Place


@dataclass(frozen=True)
class Request:
    """What is to be run.

    Attributes:
        edition: the whole edition.
        asked: the part of it that was asked for and whose data are there.
        place: folders, device and dtype of the run.
        backbone: the loaded backbone.
        ledger: the results so far.
        trials: the trials of ``asked``, by key.
        absent: tasks that were asked for and whose data are not there.
    """

    edition: Edition
    asked: Edition
    place: Place
    backbone: Backbone
    ledger: Ledger
    trials: Mapping[str, Trial]
    absent: tuple[str, ...]

    def costs(self) -> Costs:
        """The costs of trials on this backbone and machine."""
        from polytask.paper.cost import Costs

        return Costs(self.backbone, self.place.data, self.place.jobs)


def request_from(given: EditionOptions) -> Request:
    """Find the trials that are asked for. Every task is read once, for its digest.

    Raises:
        UnknownName: there is no such edition, exhibit or task.
        DataError: the data of a task that was named are not there.
    """
    from polytask.paper.edition import all_trials
    from polytask.paper.editions import edition_named
    from polytask.paper.ledger import Ledger
    from polytask.paper.run import JOBS, Place, keyed
    from polytask.suites.tasks import available

    data, backbone, out = given.data, given.backbone, given.out
    whole = edition_named(given.edition).limited(max_rows=given.max_rows, epochs=given.epochs, seeds=given.seeds)
    asked = whole.restricted(_names(given.exhibits), _names(given.tasks))
    there = available(data)
    absent = tuple(dict.fromkeys(task for p in asked.plans for task in p.tasks if task not in there))
    if given.tasks is not None and absent:
        raise DataError(f"not there: {', '.join(absent)}", file=data, fix=f"There are: {', '.join(sorted(there))}")
    ledger = Ledger(out, whole.name)
    frozen = load_backbone(backbone, *device_and_dtype(ledger, backbone, given.device, given.dtype))
    plans = [replace(p, tasks=tuple(task for task in p.tasks if task in there)) for p in asked.plans]
    asked = replace(asked, plans=tuple(p for p in plans if p.tasks)).on(frozen.num_layers)
    kind = frozen.device.type
    place = Place(out, backbone, data, str(frozen.device), str(frozen.dtype).removeprefix("torch."), JOBS.get(kind, 8))
    with spinner("reading the tasks"):
        trials = keyed(all_trials(asked), frozen, data)
    return Request(whole.on(frozen.num_layers), asked, place, frozen, ledger, trials, absent)


def device_and_dtype(ledger: Ledger, backbone: str, device: str, dtype: str) -> tuple[str, str]:
    """Device and dtype; ``auto`` is the dtype of earlier results on this backbone and device, if there are any."""
    if dtype != "auto":
        return device, dtype
    import torch

    kind = "cuda" if device == "auto" and torch.cuda.is_available() else "cpu" if device == "auto" else device
    for entry in ledger.entries():
        environment = entry.environment
        if entry.backbone["name"] == backbone and str(environment["device"]).startswith(kind.partition(":")[0]):
            return device, str(environment["dtype"])
    return device, dtype


def fit_budget(request: Request, budget: float | None) -> tuple[Request, list[str]]:
    """Reduce a request to a budget.

    Args:
        request: what is to be run.
        budget: hours; None for no limit.

    Returns:
        The reduced request, and a line for each thing that was cut.
    """
    from polytask.paper.budget import cut_in_words, fitted
    from polytask.paper.edition import all_trials, identity
    from polytask.paper.run import missing

    if budget is None:
        return request, []
    with spinner("timing a few steps of every method"):
        costs = request.costs()
        left = missing(request.trials, request.ledger)
        seconds = {identity(trial): costs.seconds(trial) for trial in left.values()}
    small = fitted(request.asked, seconds, 3600 * budget)
    kept = {identity(trial) for trial in all_trials(small)}
    trials = {key: trial for key, trial in request.trials.items() if identity(trial) in kept}
    needed_s = sum(seconds.get(name, 0.0) for name in kept)
    cut = cut_in_words(request.asked, small)
    if needed_s > 3600 * budget:
        cut.append(f"what is left takes about {wording.seconds_in_words(needed_s)}, more than the budget")
    return replace(request, asked=small, trials=trials), cut


def hardware(request: Request) -> str:
    """The name of the hardware on which the trials would run."""
    from polytask.training.result import environment

    return str(environment(request.backbone.device, request.backbone.dtype)["hardware"])


def entries_here(request: Request) -> list[Entry]:
    """The results of the request's trials that were made on this hardware."""
    done = [request.ledger.read(key) for key in request.trials if key in request.ledger]
    return [entry for entry in done if entry.environment["hardware"] == hardware(request)]


def pace_of(request: Request) -> Pace:
    """The pace of the request's trials, from those that have already run on this hardware."""
    from polytask.launch.pace import Pace
    from polytask.paper.cost import method_kind

    costs = request.costs()
    with spinner("counting tokens"):
        tokens = {key: costs.tokens(trial) for key, trial in request.trials.items()}
    pace = Pace(tokens, {key: method_kind(trial) for key, trial in request.trials.items()})
    for entry in entries_here(request):
        if entry.failure is None:
            pace.add(entry.key, entry.seconds)
    return pace


def group_costs(
    request: Request, groups: Iterable[Iterable[Trial]], *, costs: Costs, left: Mapping[str, Trial], factor: float
) -> Iterator[dict[str, Any]]:
    """The cost of each group of trials. A trial that is in several groups is counted in the first.

    Args:
        request: what is to be run.
        groups: the trials of each exhibit or part.
        costs: measured costs of trials.
        left: the trials that are not done, by key.
        factor: how many times as long finished trials took as was estimated.
    """
    from polytask.paper.edition import identity

    key_of = {identity(trial): key for key, trial in request.trials.items()}
    counted: set[str] = set()
    for group in groups:
        keys = list(dict.fromkeys(key_of[identity(trial)] for trial in group))
        todo = [left[key] for key in keys if key in left and key not in counted]
        low, middle, high = (factor * sum(costs.seconds(trial, at) for trial in todo) for at in (0.25, 0.5, 0.75))
        yield {
            "methods": len({request.trials[key].method["name"] for key in keys}),
            "trials": len(keys),
            "done": sum(key not in left for key in keys),
            "shared": sum(key in left and key in counted for key in keys),
            "to_run": len(todo),
            "tokens": sum(map(costs.tokens, todo)),
            "seconds": middle,
            "seconds_range": [low, high],
        }
        counted |= set(keys)


def show_scope(out: Any, request: Request, cut: list[str]) -> None:
    """Print the edition with its limits, and notes on what was cut, what is absent and earlier results."""
    where = "on the hub" if request.place.data is None else f"in {request.place.data}"
    place = request.place
    out.print(
        f"edition {request.edition.name} on {place.backbone} ({place.dtype}, {place.device}): "
        f"{'; '.join(request.edition.caps())}",
        style="dim",
    )
    remarks = [f"cut to fit the budget: {line}" for line in cut]
    made = {str(request.ledger.read(key).environment["dtype"]) for key in request.trials if key in request.ledger}
    if other := sorted(made - {place.dtype}):
        remarks.append(f"earlier results in {' and '.join(other)} are used; they are not run again in {place.dtype}")
    if request.absent:
        remarks.append(f"not {where}, and left out: {', '.join(request.absent)}")
    console.notes(out, remarks)


def launcher_of(launch: LaunchOptions, devices: tuple[str, ...]) -> Callable[..., Iterator[dict[str, Any]]]:
    """The launcher, with its options."""
    if launch.on == "ray":
        from polytask.launch import ray

        return partial(ray.run_packs, address=launch.address, gpus=launch.gpus, cpus=launch.cpus)
    from polytask.launch import local

    return partial(local.run_packs, devices=devices)


def devices_of(device: str, workers: int | None) -> tuple[str, ...]:
    """The device of each process: every GPU once, or as many as there are workers.

    Raises:
        PolytaskError: there is no worker.
    """
    import torch

    if workers is not None and workers < 1:
        raise PolytaskError(f"--workers {workers} is out of range. Give a whole number from 1")
    there = [f"cuda:{n}" for n in range(torch.cuda.device_count())] if device == "cuda" else [device]
    return tuple(there[n % len(there)] for n in range(workers or len(there)))


def _names(given: str | None) -> list[str]:
    return [name.strip() for name in (given or "").split(",") if name.strip()]
