"""``polytask paper report``: all tables and figures, and one page."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import typer

from polytask.cli import options
from polytask.cli.options import GIVEN, emit, examples
from polytask.cli.paper.arguments import app

if TYPE_CHECKING:
    pass
from polytask.cli.paper.exhibits import Edition, OfBackbone, Out, Page, reported, say_report


@app.command(
    epilog=examples(
        "polytask paper report",
        "polytask paper report --edition paper --out results --html paper.html",
    )
)
def report(
    context: typer.Context,
    edition: Edition = "cpu",
    out: Out = "results",
    backbone: OfBackbone = None,
    html: Page = None,
    as_json: options.AsJson = False,
) -> None:
    """Write every table and figure, and one page with all of them, from what was run. Nothing is trained.

    Tables as Markdown, LaTeX and CSV and figures as PNG and SVG go to OUT/EDITION/exhibits. The page stands alone: it
    can be sent by mail or put on any server.
    """
    told = reported(edition, out, backbone, html, shlex.join(["polytask", *context.meta[GIVEN]]))
    if as_json:
        emit(told)
    else:
        say_report(told)
