"""``polytask paper report``: all tables and figures, and one page."""

from __future__ import annotations

import shlex

import typer

from polytask.cli import options
from polytask.cli.options import ARGUMENTS, examples, print_json
from polytask.cli.paper.arguments import Page, ReportBackbone, ReportEdition, ReportResults, Update, app
from polytask.cli.paper.exhibits import report_json, show_report, write_exhibits
from polytask.errors import DataError


@app.command(
    epilog=examples(
        "polytask paper report",
        "polytask paper report --edition paper --out results --html paper.html",
        "polytask paper report --edition claim --update docs/reproduction.md",
    )
)
def report(
    context: typer.Context,
    edition: ReportEdition = "cpu",
    out: ReportResults = "results",
    backbone: ReportBackbone = None,
    html: Page = None,
    update: Update = None,
    as_json: options.AsJson = False,
) -> None:
    """Write every table and figure, one page with all of them, and whether they confirm the paper's claims.

    Tables are written as Markdown, LaTeX and CSV, figures as PNG and SVG, to OUT/EDITION/exhibits. The page is one
    self-contained file. Nothing is trained.
    """
    from polytask.paper.claim_report import update_document

    written = write_exhibits(edition, out, backbone, html, shlex.join(["polytask", *context.meta[ARGUMENTS]]))
    if update is not None:
        if written.claim is None:
            raise DataError("no run has described this edition", file=out, fix="Start polytask paper run once")
        update_document(update, written.claim)
    if as_json:
        print_json(report_json(written))
    else:
        show_report(written)
