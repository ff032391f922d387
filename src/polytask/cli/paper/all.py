"""``polytask paper all``: run what is missing, then report."""

from __future__ import annotations

import shlex

import typer

from polytask.cli import console, options
from polytask.cli.options import ARGUMENTS, examples, print_json
from polytask.cli.paper.arguments import DryRun, EditionOptions, LaunchOptions, Page, app
from polytask.cli.paper.exhibits import report_json, show_report, write_exhibits
from polytask.cli.paper.plan import show_plan
from polytask.cli.paper.requests import request_from
from polytask.cli.paper.run import run_in_words, run_request
from polytask.drawing.figures import check_drawing


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
    given: EditionOptions,
    launch: LaunchOptions,
    html: Page = None,
    dry_run: DryRun = False,
    as_json: options.AsJson = False,
) -> None:
    """Run the trials that have no result yet, then write every table and figure: run and report in one."""
    launch.check()
    request = request_from(given)
    if dry_run:
        show_plan(request, given.budget, as_json)
        return
    check_drawing()
    done = run_request(request, given.budget, launch, context.meta[ARGUMENTS])
    name = request.edition.name
    command = shlex.join(["polytask", "paper", "report", "--edition", name, "--out", given.out])
    written = write_exhibits(name, given.out, request.backbone.name, html, command)
    if as_json:
        print_json({**done, **report_json(written)})
        return
    console.terminal().print(run_in_words(done), soft_wrap=True)
    show_report(written)
