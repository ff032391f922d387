"""``polytask paper all``: run what is missing, then report."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import typer

from polytask.cli import console, options
from polytask.cli.options import GIVEN, emit, examples
from polytask.cli.paper import arguments, plan, requests, run
from polytask.cli.paper.arguments import app
from polytask.paper.figures import check_drawing

if TYPE_CHECKING:
    pass
from polytask.cli.paper.exhibits import Page, reported, say_report


@app.command(
    name="all",
    epilog=examples(
        "polytask paper all --edition cpu --backbone minilm --data DIR --out results",
        "polytask paper all --data DIR --exhibits table1,table2 --budget 8 --workers 2",
        "polytask paper all --data DIR --tasks CoLA,sms_spam,squad --max-rows 150 --epochs 1   # a look in minutes",
        "polytask paper all --edition paper --backbone bert-base-uncased --on ray --address auto",
    ),
)
def everything(
    context: typer.Context,
    edition: arguments.EditionName = "cpu",
    backbone: arguments.BackboneName = "minilm",
    data: arguments.Data = None,
    out: arguments.Results = "results",
    exhibits: arguments.Exhibits = None,
    tasks: arguments.Tasks = None,
    budget: arguments.Budget = None,
    max_rows: arguments.MaxRows = None,
    epochs: arguments.Epochs = None,
    seeds: arguments.Seeds = None,
    on: arguments.Launcher = "local",
    address: arguments.Address = None,
    workers: arguments.Workers = None,
    gpus: arguments.Gpus = None,
    cpus: arguments.Cpus = None,
    keep_adapters: arguments.Keep = "best",
    html: Page = None,
    dry_run: arguments.DryRun = False,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Run what the results lack, then write every table and figure: run and report in one."""
    asked = requests.Asked(
        edition, backbone, data, out, exhibits, tasks, budget, max_rows, epochs, seeds, device, dtype
    )
    how = requests.How(on, address, workers, gpus, cpus, keep_adapters).checked()
    request = requests.requested(asked)
    if dry_run:
        plan.planned(request, budget, as_json)
        return
    check_drawing()
    told = run.ran(request, asked, how, context.meta[GIVEN])
    name = request.edition.name
    again = shlex.join(["polytask", "paper", "report", "--edition", name, "--out", out])
    drawn = reported(name, out, request.backbone.name, html, again)
    if as_json:
        emit({**told, **drawn})
        return
    console.terminal().print(run.run_in_words(told), soft_wrap=True)
    say_report(drawn)
