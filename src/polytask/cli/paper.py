"""``polytask paper``, the paper by one command: the options of its verbs, and those that run or plan trials."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polytask import screen
from polytask.cli import options
from polytask.cli.options import GIVEN, INTERRUPTED, emit, examples, loaded, refused, working
from polytask.cli.trials import again_table, following, part_table, plan_table, trial_in_words
from polytask.cli.usage import Verbs
from polytask.errors import DataError, PolytaskError, UnknownName

if TYPE_CHECKING:
    from polytask.backbones import Backbone
    from polytask.paper.cost import Costs
    from polytask.paper.editions import Edition
    from polytask.paper.ledger import Ledger, Trial
    from polytask.paper.run import Place

ORDER = ("plan", "run", "show", "report", "all", "rerun", "submit")


class PaperVerbs(Verbs):
    """In the order in which a reproduction goes."""

    def list_commands(self, ctx: Any) -> list[str]:
        """As in ``ORDER``."""
        return list(ORDER)


app = options.Typer(
    cls=PaperVerbs,
    name="paper",
    no_args_is_help=True,
    help="Reproduce Houlsby et al. (2019): run its trials, draw its tables and figures.",
)

EditionName = Annotated[str, typer.Option("--edition", help="paper: the grids as printed; cpu: capped for two cores.")]
BackboneName = Annotated[str, typer.Option("--backbone", help="A hub id, a folder, or minilm.")]
Data = Annotated[
    str | None,
    typer.Option("--data", metavar="DIR", help="Holds glue/, text17/, squad/ as published; from the hub unless given."),
]
Results = Annotated[str, typer.Option("--out", metavar="DIR", help="Holds the results, a folder for each edition.")]
Exhibits = Annotated[
    str | None,
    typer.Option(
        "--exhibits",
        metavar="NAMES",
        help="Of table1,table2,tradeoff,squad,ablation,init,lr,extensions; all unless given.",
    ),
]
Tasks = Annotated[
    str | None, typer.Option("--tasks", metavar="NAMES", help="Such as CoLA,RTE,sms_spam; all unless given.")
]
Budget = Annotated[
    float | None, typer.Option("--budget", metavar="HOURS", help="Cut what does not fit, alike for all methods.")
]
MaxRows = Annotated[
    int | None, typer.Option("--max-rows", help="Another cap on the rows of each split: an edition of its own.")
]
Epochs = Annotated[int | None, typer.Option("--epochs", help="Epochs of every trial: an edition of its own.")]
Seeds = Annotated[int | None, typer.Option("--seeds", help="Seeds of every setting: an edition of its own.")]
Launcher = Annotated[str, typer.Option("--on", help="local or ray.")]
Address = Annotated[
    str | None, typer.Option(help="Of a Ray cluster: auto, ray://host:10001. One is started here unless given.")
]
Workers = Annotated[int | None, typer.Option(help="Processes side by side (local): one a GPU, or one, unless given.")]
Gpus = Annotated[float | None, typer.Option(help="GPUs of each pack (ray): 1 where there are any, unless given.")]
Cpus = Annotated[float | None, typer.Option(help="CPUs of each pack (ray): its share of a machine unless given.")]
Keep = Annotated[str, typer.Option(metavar="WHICH", help="best of each task and method, all, or none.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="As paper plan: train nothing.")]


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


@app.command(epilog=examples("polytask paper plan --edition cpu --data DIR --exhibits table1,lr"))
def plan(
    edition: EditionName = "cpu",
    backbone: BackboneName = "minilm",
    data: Data = None,
    out: Results = "results",
    exhibits: Exhibits = None,
    tasks: Tasks = None,
    budget: Budget = None,
    max_rows: MaxRows = None,
    epochs: Epochs = None,
    seeds: Seeds = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Say what a run would do and take: trials, tokens, time from a short calibration. Nothing is trained."""
    asked = Asked(edition, backbone, data, out, exhibits, tasks, budget, max_rows, epochs, seeds, device, dtype)
    planned(requested(asked), budget, as_json)


@app.command(
    epilog=examples(
        "polytask paper run --edition cpu --backbone minilm --data DIR --out results",
        "polytask paper run --data DIR --exhibits table1 --tasks CoLA,RTE --budget 1",
        "polytask paper run --edition paper --backbone bert-base-uncased --on ray --address auto",
    )
)
def run(
    context: typer.Context,
    edition: EditionName = "cpu",
    backbone: BackboneName = "minilm",
    data: Data = None,
    out: Results = "results",
    exhibits: Exhibits = None,
    tasks: Tasks = None,
    budget: Budget = None,
    max_rows: MaxRows = None,
    epochs: Epochs = None,
    seeds: Seeds = None,
    on: Launcher = "local",
    address: Address = None,
    workers: Workers = None,
    gpus: Gpus = None,
    cpus: Cpus = None,
    keep_adapters: Keep = "best",
    dry_run: DryRun = False,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Run the trials that the results lack. Every one is kept as it ends; the same command again goes on."""
    asked = Asked(edition, backbone, data, out, exhibits, tasks, budget, max_rows, epochs, seeds, device, dtype)
    how = How(on, address, workers, gpus, cpus, keep_adapters).checked()
    if dry_run:
        planned(requested(asked), budget, as_json)
        return
    told = ran(requested(asked), asked, how, context.meta[GIVEN])
    if as_json:
        emit(told)
    else:
        screen.terminal().print(run_in_words(told), soft_wrap=True)


def ran(request: Request, asked: Asked, how: How, given: Sequence[str]) -> dict[str, Any]:
    """Run what a request lacks, with its progress on stderr; what came of it. ``given`` is the command line."""
    from polytask.paper.run import missing
    from polytask.paper.run import run as run_trials

    request, cut = within(request, asked.budget)
    devices = devices_of(str(request.backbone.device), how.workers)
    share = 1 / len(devices) if how.on == "local" else 1.0
    place = replace(request.place, adapters=how.keep_adapters, share=share)
    err = screen.terminal(stderr=True)
    say_what(err, request, cut)
    todo = missing(request.trials, request.ledger)
    messages = run_trials(request.edition, request.trials, place, launcher(how, devices), cut)
    try:
        with following(err, request.trials, todo) as seen:
            for message in messages:
                seen(message)
    except KeyboardInterrupt:
        messages.close()  # type: ignore[attr-defined]
        left = len(missing(request.trials, request.ledger))
        again = shlex.join(["polytask", *given])
        raise refused(f"interrupted with {left} trials to go. To go on from here: {again}", INTERRUPTED) from None
    return {
        "edition": request.edition.name,
        "folder": str(request.ledger.folder),
        "caps": request.edition.caps(),
        "cut": cut,
        "absent": list(request.absent),
        "trials": len(request.trials),
        "there": len(request.trials) - len(todo),
        "run": seen.num_over,
        "diverged": seen.num_diverged,
        "elsewhere": len(seen.elsewhere - {key for key in request.trials if key in request.ledger}),
    }


def run_in_words(told: Mapping[str, Any]) -> str:
    """``12 trials run, 3 of them diverged, 4 were there: results/cpu``."""
    diverged = f", {told['diverged']} of them diverged" if told["diverged"] else ""
    elsewhere = f", {told['elsewhere']} are run by another process" if told["elsewhere"] else ""
    return f"{told['run']} trials run{diverged}, {told['there']} were there{elsewhere}: {told['folder']}"


@app.command(epilog=examples("polytask paper rerun 3f0c9e52a1b47d68 --data DIR --out results"))
def rerun(
    key: Annotated[str, typer.Argument(metavar="KEY", help="Of an entry: its file is OUT/EDITION/KEY.json.")],
    edition: Annotated[
        str, typer.Option("--edition", metavar="NAME", help="Which of the folders under --out.")
    ] = "cpu",
    data: Data = None,
    out: Results = "results",
    as_json: options.AsJson = False,
) -> None:
    """Run one entry of the results again from its recipe alone, and compare the scores. The results stay as they are.

    Backbone, device, precision and rows are the entry's, and refused where they are no longer the same.
    """
    from polytask.paper.again import again
    from polytask.paper.ledger import Ledger

    entry = Ledger(out, edition).read(key)
    err = screen.terminal(stderr=True)
    err.print(trial_in_words(entry.trial), style="dim")
    with working("running it again"):
        other = again(entry, data)
    splits = {"validation": (entry.validation, other.validation), "test": (entry.test, other.test)}
    scores = {name: [one and one.score for one in both] for name, both in splits.items()}
    is_equal = all(before == now for before, now in scores.values())
    if as_json:
        emit({"key": key, "trial": trial_in_words(entry.trial), **scores, "equal": is_equal})
        return
    screen.terminal().print(again_table(splits))
    screen.terminal().print("the same to the last digit" if is_equal else "not the same to the last digit")


@app.command(epilog=examples("polytask paper submit --data DIR --out results --to submission"))
def submit(
    edition: EditionName = "cpu",
    backbone: BackboneName = "minilm",
    data: Data = None,
    out: Results = "results",
    to: Annotated[
        str, typer.Option("--to", metavar="DIR", help="Where the server's files are written.")
    ] = "submission",
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Answer GLUE's test rows with the best adapters kept, in the form that the GLUE server takes."""
    from polytask.paper.ledger import Ledger
    from polytask.paper.submission import submit as write

    if data is None:
        raise DataError("the test rows are read from a folder", fix="Give --data DIR, which holds glue/")
    ledger = Ledger(out, edition)
    frozen = loaded(backbone, *settled(ledger, backbone, device, dtype))
    with working("answering GLUE's test rows"):
        written, missing = write(frozen, ledger, data, to)
    if as_json:
        emit({"folder": to, "written": written, "missing": missing})
        return
    said = f"{len(written)} tasks written to {to}" if written else "nothing was written"
    screen.terminal().print(f"{said}: {', '.join(written)}" if written else said, soft_wrap=True)
    screen.notes(screen.terminal(stderr=True), [f"{name} is missing: {why}" for name, why in missing.items()])


def requested(asked_for: Asked) -> Request:
    """The options as what they ask for; every task is read once, for its digest."""
    from polytask.paper.editions import all_trials, edition_named
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
    from polytask.paper.editions import all_trials, cut_in_words, identity
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
        cut.append(f"what is left takes about {screen.seconds_in_words(needed_s)}, more than the budget")
    return replace(request, asked=small, trials=trials), cut


def planned(request: Request, budget: float | None, as_json: bool) -> None:
    """Print what would be run: a part a line where the edition has parts, and an exhibit a line."""
    from polytask.paper.cost import correction
    from polytask.paper.editions import in_parts, trials
    from polytask.paper.run import missing

    request, cut = within(request, budget)
    left = missing(request.trials, request.ledger)
    with working("timing some steps of every method"):
        costs = request.costs()
        costs.measure(request.trials.values())
        of_here = [request.ledger.read(key) for key in request.trials if key not in left]
        factor, num_done = correction(costs, [e for e in of_here if e.environment["hardware"] == hardware(request)])
        costed = partial(shares, costs=costs, left=left, factor=factor)
        plans = request.asked.plans
        rows = [
            {
                "exhibit": one.exhibit,
                "tasks": len(one.tasks),
                "settings": one.num_settings,
                "seeds": one.most_seeds,
                **own,
            }
            for one, own in zip(plans, costed(request, [trials(request.asked, one.exhibit) for one in plans]))
        ]
        parts = in_parts(request.asked) if request.edition.parts else {}
        by_part = [{"part": name, **own} for name, own in zip(parts, costed(request, parts.values()))]
    total = {name: sum(row[name] for row in rows) for name in ("to_run", "tokens", "seconds")}
    total["seconds_range"] = [sum(row["seconds_range"][at] for row in rows) for at in (0, 1)]
    if as_json:
        about: dict[str, Any] = {"edition": request.edition.name, "caps": request.edition.caps(), "cut": cut}
        about |= {"corrected_by": factor, "trials_done": num_done}
        listed = {"exhibits": rows, "parts": by_part, "trials": len(request.trials)}
        emit({**about, "absent": list(request.absent), **listed, **total})
        return
    say_what(screen.terminal(stderr=True), request, cut)
    if factor != 1:
        done = screen.counted(num_done, "trial")
        screen.notes(
            screen.terminal(stderr=True), [f"{done} done took {factor:.1f} times as long as timed now; so counted"]
        )
    if by_part:
        screen.terminal().print(part_table(by_part))
    screen.terminal().print(plan_table(rows, total))


def hardware(request: Request) -> str:
    """What the trials would run on."""
    from polytask.train.result import environment

    return str(environment(request.backbone.device, request.backbone.dtype)["hardware"])


def shares(
    request: Request, groups: Iterable[Iterable[Trial]], *, costs: Costs, left: Mapping[str, Trial], factor: float
) -> Iterator[dict[str, Any]]:
    """What each group of trials has to run of what is ``left``, those aside that an earlier one has."""
    from polytask.paper.editions import identity

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


def say_what(console: Any, request: Request, cut: list[str]) -> None:
    """Caps, cuts and what is not there."""
    where = "on the hub" if request.place.data is None else f"in {request.place.data}"
    place = request.place
    console.print(
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
    screen.notes(console, remarks)


def launcher(how: How, devices: tuple[str, ...]) -> Callable[..., Iterator[dict[str, Any]]]:
    """``local`` or ``ray`` with its options."""
    if how.on == "ray":
        from polytask.launch import ray

        return partial(ray.run, address=how.address, gpus=how.gpus, cpus=how.cpus)
    from polytask.launch import local

    return partial(local.run, devices=devices)


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
