"""``polytask paper``, the paper by one command: the options of its verbs, and those that run or plan trials."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from polytask.cli import console, wording
from polytask.cli.options import loaded, working
from polytask.errors import DataError, PolytaskError, UnknownName

if TYPE_CHECKING:
    from polytask.backbones.backbone import Backbone
    from polytask.paper.cost import Costs
    from polytask.paper.edition import Edition
    from polytask.paper.ledger import Ledger, Trial
    from polytask.paper.run import Place


@dataclass(frozen=True)
class Asked:
    """The options that say what is to be run."""

    edition: str
    backbone: str
    data: str | None
    out: str
    exhibits: str | None
    tasks: str | None
    budget: float | None
    max_rows: int | None
    epochs: int | None
    seeds: int | None
    device: str
    dtype: str


@dataclass(frozen=True)
class How:
    """The options that say where and by whom."""

    on: str
    address: str | None
    workers: int | None
    gpus: float | None
    cpus: float | None
    keep_adapters: str

    def checked(self) -> How:
        """The same, if its options go together.

        Raises:
            UnknownName: there is no such launcher or choice of adapters.
            PolytaskError: an option is another launcher's.
        """
        if self.keep_adapters not in KEPT:
            raise UnknownName("choice of --keep-adapters", self.keep_adapters, KEPT)
        if self.on not in LAUNCHERS:
            raise UnknownName("launcher", self.on, LAUNCHERS)
        if self.on == "local" and (self.address, self.gpus, self.cpus) != (None, None, None):
            raise PolytaskError("--address, --gpus and --cpus are for --on ray")
        if self.on == "ray" and self.workers is not None:
            raise PolytaskError(
                "--workers is for --on local. With Ray, --gpus and --cpus of each pack say how many run"
            )
        return self


KEPT, LAUNCHERS = ("best", "all", "none"), ("local", "ray")


@dataclass(frozen=True)
class Request:
    """What is to be run, read from the options.

    ``edition`` is whole, ``asked`` what of it was asked for and is there, ``absent`` the tasks that are not.
    """

    edition: Edition
    asked: Edition
    place: Place
    backbone: Backbone
    ledger: Ledger
    trials: Mapping[str, Trial]
    absent: tuple[str, ...]

    def costs(self) -> Costs:
        """Of trials, on the backbone as it is here."""
        from polytask.paper.cost import Costs

        return Costs(self.backbone, self.place.data, self.place.jobs)


def requested(asked_for: Asked) -> Request:
    """The options as what they ask for; every task is read once, for its digest."""
    from polytask.paper.edition import all_trials
    from polytask.paper.editions import edition_named
    from polytask.paper.ledger import Ledger
    from polytask.paper.run import JOBS, Place, keyed
    from polytask.paper.suites import available

    data, backbone, out = asked_for.data, asked_for.backbone, asked_for.out
    limits = {name: getattr(asked_for, name) for name in ("max_rows", "epochs", "seeds")}
    whole = edition_named(asked_for.edition).limited(**limits)
    asked = whole.restricted(_names(asked_for.exhibits), _names(asked_for.tasks))
    there = available(data)
    absent = tuple(dict.fromkeys(task for p in asked.plans for task in p.tasks if task not in there))
    if asked_for.tasks is not None and absent:
        raise DataError(f"not there: {', '.join(absent)}", file=data, fix=f"There are: {', '.join(sorted(there))}")
    ledger = Ledger(out, whole.name)
    frozen = loaded(backbone, *settled(ledger, backbone, asked_for.device, asked_for.dtype))
    plans = [replace(p, tasks=tuple(task for task in p.tasks if task in there)) for p in asked.plans]
    asked = replace(asked, plans=tuple(p for p in plans if p.tasks)).on(frozen.num_layers)
    kind = frozen.device.type
    place = Place(out, backbone, data, str(frozen.device), str(frozen.dtype).removeprefix("torch."), JOBS.get(kind, 8))
    with working("reading the tasks"):
        trials = keyed(all_trials(asked), frozen, data)
    return Request(whole.on(frozen.num_layers), asked, place, frozen, ledger, trials, absent)


def settled(ledger: Ledger, backbone: str, device: str, dtype: str) -> tuple[str, str]:
    """Device and dtype; ``auto`` is the dtype that the results on this backbone and device were made with, if any."""
    if dtype != "auto":
        return device, dtype
    import torch

    kind = "cuda" if device == "auto" and torch.cuda.is_available() else "cpu" if device == "auto" else device
    for entry in ledger.entries():
        of = entry.environment
        if entry.backbone["name"] == backbone and str(of["device"]).startswith(kind.partition(":")[0]):
            return device, str(of["dtype"])
    return device, dtype


def within(request: Request, budget: float | None) -> tuple[Request, list[str]]:
    """What of a request fits a budget in hours, and what was cut."""
    from polytask.paper.cost import fitted
    from polytask.paper.edition import all_trials, cut_in_words, identity
    from polytask.paper.run import missing

    if budget is None:
        return request, []
    with working("timing some steps of every method"):
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
    """What the trials would run on."""
    from polytask.training.result import environment

    return str(environment(request.backbone.device, request.backbone.dtype)["hardware"])


def shares(
    request: Request, groups: Iterable[Iterable[Trial]], *, costs: Costs, left: Mapping[str, Trial], factor: float
) -> Iterator[dict[str, Any]]:
    """What each group of trials has to run of what is ``left``, those aside that an earlier one has."""
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


def say_what(out: Any, request: Request, cut: list[str]) -> None:
    """Caps, cuts and what is not there."""
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
        remarks.append(
            f"entries made in {' and '.join(other)} are there and are taken as they are, not run in {place.dtype}"
        )
    if request.absent:
        remarks.append(f"not {where}, and left out: {', '.join(request.absent)}")
    console.notes(out, remarks)


def launcher(how: How, devices: tuple[str, ...]) -> Callable[..., Iterator[dict[str, Any]]]:
    """``local`` or ``ray`` with its options."""
    if how.on == "ray":
        from polytask.launch import ray

        return partial(ray.run_packs, address=how.address, gpus=how.gpus, cpus=how.cpus)
    from polytask.launch import local

    return partial(local.run_packs, devices=devices)


def devices_of(device: str, workers: int | None) -> tuple[str, ...]:
    """A device for each process: every GPU once, or as many as there are workers.

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
