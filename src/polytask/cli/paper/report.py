"""``polytask paper report``: all tables and figures, and one page."""

from __future__ import annotations

import shlex

import typer

from polytask.cli import options
from polytask.cli.options import ARGUMENTS, examples, print_json
from polytask.cli.paper.arguments import Page, ReportBackbone, ReportEdition, ReportResults, app
from polytask.cli.paper.exhibits import show_report, write_exhibits


@app.command(
    epilog=examples(
        "polytask paper report",
        "polytask paper report --edition paper --out results --html paper.html",
    )
)
def report(
    context: typer.Context,
    edition: ReportEdition = "cpu",
    out: ReportResults = "results",
    backbone: ReportBackbone = None,
    html: Page = None,
    as_json: options.AsJson = False,
) -> None:
    """Write every table and figure, and one page with all of them, from the results. Nothing is trained.

    Tables are written as Markdown, LaTeX and CSV, figures as PNG and SVG, to OUT/EDITION/exhibits. The page is one
    file that needs no other.
    """
    written = write_exhibits(edition, out, backbone, html, shlex.join(["polytask", *context.meta[ARGUMENTS]]))
    if as_json:
        print_json(written)
    else:
        show_report(written)
