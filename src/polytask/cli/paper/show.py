"""``polytask paper show``: print tables, and the numbers of figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from polytask.cli import console
from polytask.cli.options import examples, print_json
from polytask.cli.paper.arguments import ReportBackbone, ReportEdition, ReportResults, app
from polytask.cli.paper.exhibits import read_results
from polytask.errors import RecipeError, UnknownName

if TYPE_CHECKING:
    from polytask.paper.report import Shown

FORMATS = ("rich", "markdown", "latex", "csv", "json")
WIDE = 160
"""Characters per line where stdout is not a terminal: these tables are wide."""


@app.command(
    epilog=examples(
        "polytask paper show table1",
        "polytask paper show table2 --format latex > table2.tex",
        "polytask paper show tradeoff --edition paper --format csv",
    )
)
def show(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[EXHIBIT]...",
            help="table1, table2, tradeoff, tradeoff-tasks, squad, ablation, init, lr, extensions (default: all).",
            show_default=False,
        ),
    ] = None,
    edition: ReportEdition = "cpu",
    out: ReportResults = "results",
    backbone: ReportBackbone = None,
    form: Annotated[str, typer.Option("--format", metavar="NAME", help=f"{', '.join(FORMATS)}.")] = "rich",
) -> None:
    """Print tables, and the numbers of figures, from the results. Nothing is trained."""
    from polytask.drawing.exhibit import NothingToShow
    from polytask.paper.background import Background
    from polytask.paper.exhibits import EXHIBITS
    from polytask.paper.report import shown
    from polytask.paper.selection import of_one_backbone, on_one_data

    if form not in FORMATS:
        raise UnknownName("format", form, FORMATS)
    for name in names or ():
        if name not in EXHIBITS:
            raise UnknownName("exhibit", name, EXHIBITS)
    if form == "csv" and len(names or EXHIBITS) > 1:
        raise RecipeError("--format csv prints one table. Name one exhibit: polytask paper show table1 --format csv")
    ledger, entries = read_results(out, edition)
    kept, remarks = on_one_data(of_one_backbone(entries, backbone))
    background = Background.of(ledger)
    found = [shown(EXHIBITS[name], kept, background) for name in names or EXHIBITS]
    if names and (empty := next((one for one in found if one.why_empty), None)):
        raise NothingToShow(empty.why_empty)
    notes = [*remarks, *(f"{one.exhibit.name} is left out: {one.why_empty}" for one in found if one.why_empty)]
    console.notes(console.terminal(stderr=True), notes)
    for one in found:
        if one.table is not None:
            _print(one, form)


def _print(one: Shown, form: str) -> None:
    """Print one exhibit in one of the formats."""
    assert one.table is not None
    if form == "rich":
        out = console.terminal()
        out.width = out.width if out.is_terminal else WIDE
        out.print(one.table.rich())
        out.print(one.reading)
        for mark in one.marks:
            out.print(mark, style="dim")
        out.print()
    elif form == "json":
        about = {"exhibit": one.exhibit.name, "title": one.exhibit.title, "reading": one.reading}
        rows = one.records
        print_json({**about, "missing": list(one.missing), "marks": list(one.marks), "rows": rows})
    else:
        text = {"markdown": one.table.markdown, "latex": one.table.latex, "csv": one.table.csv}[form]()
        typer.echo(text, nl=form != "csv")
