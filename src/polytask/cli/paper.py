"""``polytask paper``: the paper's tables and figures. What is run for them: ``plan``, ``run`` and ``submit``."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polytask import screen
from polytask.cli import options
from polytask.cli.options import GIVEN, INTERRUPTED, emit, examples, loaded, refused, working
from polytask.cli.trials import following, plan_table
from polytask.errors import DataError, PolytaskError, UnknownName

if TYPE_CHECKING:
    from polytask.backbones import Backbone
    from polytask.paper.cost import Costs
    from polytask.paper.editions import Edition
    from polytask.paper.ledger import Ledger, Trial
    from polytask.paper.run import Place

app = typer.Typer(
    name="paper",
    no_args_is_help=True,
    help="Reproduce Houlsby et al. (2019): run its trials, draw its tables and figures.",
    epilog=examples("polytask paper run --edition cpu --backbone minilm --data DIR --out results"),
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
MaxRows = Annotated[int | None, typer.Option("--max-rows", help="Another cap on training rows: an edition of its own.")]
Epochs = Annotated[int | None, typer.Option("--epochs", help="Epochs of every trial: an edition of its own.")]
Seeds = Annotated[int | None, typer.Option("--seeds", help="Seeds of every setting: an edition of its own.")]


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
    limits = {"max_rows": max_rows, "epochs": epochs, "seeds": seeds}
    request = requested(edition, backbone, data, out, exhibits, tasks, limits, device, dtype)
    planned(request, budget, as_json)


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
    on: Annotated[str, typer.Option("--on", help="local or ray.")] = "local",
    address: Annotated[
        str | None, typer.Option(help="Of a Ray cluster: auto, ray://host:10001. One is started here unless given.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes side by side (local): one a GPU, or one, unless given.")
    ] = None,
    gpus: Annotated[
        float | None, typer.Option(help="GPUs of each pack (ray): 1 where there are any, unless given.")
    ] = None,
    cpus: Annotated[
        float | None, typer.Option(help="CPUs of each pack (ray): its share of a machine unless given.")
    ] = None,
    keep_adapters: Annotated[
        str, typer.Option(metavar="WHICH", help="best of each task and method, all, or none.")
    ] = "best",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="As paper plan: train nothing.")] = False,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Run the trials that the results lack. Every one is kept as it ends; the same command again goes on."""
    from polytask.paper.run import missing
    from polytask.paper.run import run as run_trials

    if keep_adapters not in ("best", "all", "none"):
        raise UnknownName("choice of --keep-adapters", keep_adapters, ("best", "all", "none"))
    if on not in ("local", "ray"):
        raise UnknownName("launcher", on, ("local", "ray"))
    if on == "local" and (address is not None or gpus is not None or cpus is not None):
        raise PolytaskError("--address, --gpus and --cpus are for --on ray")
    if on == "ray" and workers is not None:
        raise PolytaskError("--workers is for --on local. With Ray, --gpus and --cpus of each pack say how many run")
    limits = {"max_rows": max_rows, "epochs": epochs, "seeds": seeds}
    request = requested(edition, backbone, data, out, exhibits, tasks, limits, device, dtype)
    if dry_run:
        planned(request, budget, as_json)
        return
    request, cut = within(request, budget)
    devices = devices_of(str(request.backbone.device), workers)
    place = replace(request.place, adapters=keep_adapters, share=1 / len(devices) if on == "local" else 1.0)
    err = screen.terminal(stderr=True)
    say_what(err, request, cut)
    todo = missing(request.trials, request.ledger)
    launch = launcher(on, devices, address, gpus, cpus)
    messages = run_trials(request.edition, request.trials, place, launch, cut)
    try:
        with following(err, request.trials, todo) as seen:
            for message in messages:
                seen(message)
    except KeyboardInterrupt:
        messages.close()  # type: ignore[attr-defined]
        again = shlex.join(["polytask", *context.meta[GIVEN]])
        left = len(missing(request.trials, request.ledger))
        raise refused(f"interrupted with {left} trials to go. To go on from here: {again}", INTERRUPTED) from None
    told = {
        "edition": request.edition.name,
        "folder": str(request.ledger.folder),
        "caps": request.edition.caps(),
        "cut": cut,
        "absent": list(request.absent),
        "trials": len(request.trials),
        "run": seen.num_over,
        "diverged": seen.num_diverged,
        "elsewhere": len(seen.elsewhere - {key for key in request.trials if key in request.ledger}),
    }
    if as_json:
        emit(told)
        return
    diverged = f", {seen.num_diverged} of them diverged" if seen.num_diverged else ""
    elsewhere = f", {told['elsewhere']} are run by another process" if told["elsewhere"] else ""
    screen.terminal().print(
        f"{seen.num_over} trials run{diverged}, {len(request.trials) - len(todo)} were there{elsewhere}: "
        f"{request.ledger.folder}",
        soft_wrap=True,
    )


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


def requested(
    edition: str,
    backbone: str,
    data: str | None,
    out: str,
    exhibits: str | None,
    tasks: str | None,
    limits: Mapping[str, int | None],
    device: str,
    dtype: str,
) -> Request:
    """The options as what they ask for; every task is read once, for its digest."""
    from polytask.paper.editions import all_trials, edition_named
    from polytask.paper.ledger import Ledger
    from polytask.paper.run import JOBS, Place, keyed
    from polytask.paper.suites import available

    whole = edition_named(edition).limited(**limits)
    asked = whole.restricted(_names(exhibits), _names(tasks))
    there = available(data)
    absent = tuple(dict.fromkeys(task for p in asked.plans for task in p.tasks if task not in there))
    if tasks is not None and absent:
        raise DataError(f"not there: {', '.join(absent)}", file=data, fix=f"There are: {', '.join(sorted(there))}")
    ledger = Ledger(out, whole.name)
    frozen = loaded(backbone, *settled(ledger, backbone, device, dtype))
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
    """Print what would be run, an exhibit a line."""
    from polytask.paper.editions import identity, trials
    from polytask.paper.run import missing

    request, cut = within(request, budget)
    key_of = {identity(trial): key for key, trial in request.trials.items()}
    left = missing(request.trials, request.ledger)
    rows: list[dict[str, Any]] = []
    counted: set[str] = set()
    with working("timing some steps of every method"):
        costs = request.costs()
        for one in request.asked.plans:
            keys = list(dict.fromkeys(key_of[identity(trial)] for trial in trials(request.asked, one.exhibit)))
            todo = [left[key] for key in keys if key in left and key not in counted]
            rows.append(
                {
                    "exhibit": one.exhibit,
                    "tasks": len(one.tasks),
                    "methods": len({request.trials[key].method["name"] for key in keys}),
                    "settings": one.num_settings,
                    "seeds": one.seeds,
                    "trials": len(keys),
                    "done": sum(key not in left for key in keys),
                    "shared": sum(key in left and key in counted for key in keys),
                    "to_run": len(todo),
                    "tokens": sum(map(costs.tokens, todo)),
                    "seconds": sum(map(costs.seconds, todo)),
                }
            )
            counted |= set(keys)
    total = {name: sum(row[name] for row in rows) for name in ("to_run", "tokens", "seconds")}
    if as_json:
        about = {"edition": request.edition.name, "caps": request.edition.caps(), "cut": cut}
        emit({**about, "absent": list(request.absent), "exhibits": rows, "trials": len(request.trials), **total})
        return
    say_what(screen.terminal(stderr=True), request, cut)
    screen.terminal().print(plan_table(rows, total))


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
    if request.absent:
        remarks.append(f"not {where}, and left out: {', '.join(request.absent)}")
    screen.notes(console, remarks)


def launcher(
    on: str, devices: tuple[str, ...], address: str | None, gpus: float | None, cpus: float | None
) -> Callable[..., Iterator[dict[str, Any]]]:
    """``local`` or ``ray`` with its options."""
    if on == "ray":
        from polytask.launch import ray

        return partial(ray.run, address=address, gpus=gpus, cpus=cpus)
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
