"""``polytask paper run``: run the trials that the results lack."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import typer

from polytask.cli import console, options
from polytask.cli.options import GIVEN, INTERRUPTED, emit, examples, refused
from polytask.cli.paper.trials import following

if TYPE_CHECKING:
    pass
from polytask.cli.paper.arguments import (
    Address,
    BackboneName,
    Budget,
    Cpus,
    Data,
    DryRun,
    EditionName,
    Epochs,
    Exhibits,
    Gpus,
    Keep,
    Launcher,
    MaxRows,
    Results,
    Seeds,
    Tasks,
    Workers,
    app,
)
from polytask.cli.paper.plan import planned
from polytask.cli.paper.requests import Asked, How, Request, devices_of, launcher, requested, say_what, within


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
        console.terminal().print(run_in_words(told), soft_wrap=True)


def ran(request: Request, asked: Asked, how: How, given: Sequence[str]) -> dict[str, Any]:
    """Run what a request lacks, with its progress on stderr; what came of it. ``given`` is the command line."""
    from polytask.paper.run import missing
    from polytask.paper.run import run as run_trials

    request, cut = within(request, asked.budget)
    devices = devices_of(str(request.backbone.device), how.workers)
    share = 1 / len(devices) if how.on == "local" else 1.0
    place = replace(request.place, adapters=how.keep_adapters, share=share)
    err = console.terminal(stderr=True)
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
