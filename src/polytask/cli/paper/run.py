"""``polytask paper run``: run the trials that have no result yet."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import typer

from polytask.cli import console, options
from polytask.cli.options import ARGUMENTS, INTERRUPTED, error_exit, examples, print_json
from polytask.cli.paper.arguments import DryRun, EditionOptions, LaunchOptions, app
from polytask.cli.paper.plan import show_plan
from polytask.cli.paper.requests import Request, devices_of, fit_budget, launcher_of, pace_of, request_from, show_scope
from polytask.cli.paper.trials import TrialProgress, following


@app.command(
    epilog=examples(
        "polytask paper run --edition cpu --backbone minilm --data DIR --out results",
        "polytask paper run --data DIR --exhibits table1 --tasks CoLA,RTE --budget 1",
        "polytask paper run --edition paper --backbone bert-base-uncased --on ray --address auto",
    )
)
def run(
    context: typer.Context,
    given: EditionOptions,
    launch: LaunchOptions,
    dry_run: DryRun = False,
    as_json: options.AsJson = False,
) -> None:
    """Run the trials that have no result yet. Each is saved when it ends; repeat the command to continue."""
    launch.check()
    if dry_run:
        show_plan(request_from(given), given.budget, as_json)
        return
    done = run_request(request_from(given), given.budget, launch, context.meta[ARGUMENTS])
    if as_json:
        print_json(done)
    else:
        console.terminal().print(run_in_words(done), soft_wrap=True)


def run_request(
    request: Request, budget: float | None, launch: LaunchOptions, arguments: Sequence[str]
) -> dict[str, Any]:
    """Run the trials that have no result yet, with progress on stderr.

    Args:
        request: what is to be run.
        budget: hours; None for no limit.
        launch: where and how to run.
        arguments: the command line, which is printed after an interrupt.

    Returns:
        Counts of trials, as ``paper run --json`` prints them.
    """
    from polytask.paper.run import missing
    from polytask.paper.run import run as run_trials

    request, cut = fit_budget(request, budget)
    devices = devices_of(str(request.backbone.device), launch.workers)
    share = 1 / len(devices) if launch.on == "local" else 1.0
    place = replace(request.place, adapters=launch.keep_adapters, share=share)
    err = console.terminal(stderr=True)
    show_scope(err, request, cut)
    todo = missing(request.trials, request.ledger)
    messages = run_trials(request.edition, request.trials, place, launcher_of(launch, devices), cut)
    seen = TrialProgress(err, request.trials, todo, pace_of(request))
    try:
        with following(seen):
            for message in messages:
                seen(message)
    except KeyboardInterrupt:
        messages.close()  # type: ignore[attr-defined]
        left = len(missing(request.trials, request.ledger))
        command = shlex.join(["polytask", *arguments])
        raise error_exit(f"interrupted with {left} trials to go. To continue: {command}", INTERRUPTED) from None
    return {
        "edition": request.edition.name,
        "folder": str(request.ledger.folder),
        "caps": request.edition.caps(),
        "cut": cut,
        "absent": list(request.absent),
        "trials": len(request.trials),
        "there": len(request.trials) - len(todo),
        "run": seen.num_finished,
        "diverged": seen.num_diverged,
        "elsewhere": len(seen.elsewhere - {key for key in request.trials if key in request.ledger}),
    }


def run_in_words(done: Mapping[str, Any]) -> str:
    """``12 trials run, 3 of them diverged, 4 were done before: results/cpu``."""
    diverged = f", {done['diverged']} of them diverged" if done["diverged"] else ""
    elsewhere = f", {done['elsewhere']} are run by another process" if done["elsewhere"] else ""
    return f"{done['run']} trials run{diverged}, {done['there']} were done before{elsewhere}: {done['folder']}"
