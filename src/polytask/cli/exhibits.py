"""``polytask paper show``, ``report`` and ``all``: the paper's tables and figures from what was run."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polytask import screen
from polytask.cli import options, paper
from polytask.cli.options import GIVEN, emit, examples, working
from polytask.cli.paper import app
from polytask.errors import DataError, RecipeError, UnknownName
from polytask.paper.figures import check_drawing

if TYPE_CHECKING:
    from polytask.paper.ledger import Entry, Ledger
    from polytask.paper.report import Shown

FORMATS = ("rich", "markdown", "latex", "csv", "json")
WIDE = 160
"""Characters of a line where the output is no terminal: these tables are wide."""

Edition = Annotated[str, typer.Option("--edition", metavar="NAME", help="Which of the folders under --out.")]
Out = Annotated[str, typer.Option("--out", metavar="DIR", help="Where the results are.")]
OfBackbone = Annotated[
    str | None, typer.Option("--backbone", metavar="NAME", help="Where the results are of several backbones.")
]

Page = Annotated[
    str | None, typer.Option("--html", metavar="FILE", help="The page; index.html beside the exhibits unless given.")
]


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
            help="table1, table2, tradeoff, tradeoff-tasks, squad, ablation, init, lr, extensions; all unless given.",
            show_default=False,
        ),
    ] = None,
    edition: Edition = "cpu",
    out: Out = "results",
    backbone: OfBackbone = None,
    form: Annotated[str, typer.Option("--format", metavar="NAME", help=f"{', '.join(FORMATS)}.")] = "rich",
) -> None:
    """Print tables, and the numbers of figures, from what was run. Nothing is trained."""
    from polytask.paper.exhibits import EXHIBITS
    from polytask.paper.report import Background, shown
    from polytask.paper.selection import NothingToShow, of_one_backbone, on_one_data

    if form not in FORMATS:
        raise UnknownName("format", form, FORMATS)
    for name in names or ():
        if name not in EXHIBITS:
            raise UnknownName("exhibit", name, EXHIBITS)
    if form == "csv" and len(names or EXHIBITS) > 1:
        raise RecipeError("--format csv prints one table. Name one exhibit: polytask paper show table1 --format csv")
    ledger, entries = read(out, edition)
    kept, remarks = on_one_data(of_one_backbone(entries, backbone))
    background = Background.of(ledger)
    found = [shown(EXHIBITS[name], kept, background) for name in names or EXHIBITS]
    if names and (empty := next((one for one in found if one.why_empty), None)):
        raise NothingToShow(empty.why_empty)
    notes = [*remarks, *(f"{one.exhibit.name} is left out: {one.why_empty}" for one in found if one.why_empty)]
    screen.notes(screen.terminal(stderr=True), notes)
    for one in found:
        if one.table is not None:
            _print(one, form)


def _print(one: Shown, form: str) -> None:
    """One exhibit in one of the formats."""
    assert one.table is not None
    if form == "rich":
        out = screen.terminal()
        out.width = out.width if out.is_terminal else WIDE
        out.print(one.table.rich())
        out.print(one.reading)
        for mark in one.marks:
            out.print(mark, style="dim")
        out.print()
    elif form == "json":
        about = {"exhibit": one.exhibit.name, "title": one.exhibit.title, "reading": one.reading}
        emit({**about, "missing": list(one.missing), "marks": list(one.marks), "rows": one.exhibit.rows(one.entries)})
    else:
        text = {"markdown": one.table.markdown, "latex": one.table.latex, "csv": one.table.csv}[form]()
        typer.echo(text, nl=form != "csv")


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
    edition: paper.EditionName = "cpu",
    backbone: paper.BackboneName = "minilm",
    data: paper.Data = None,
    out: paper.Results = "results",
    exhibits: paper.Exhibits = None,
    tasks: paper.Tasks = None,
    budget: paper.Budget = None,
    max_rows: paper.MaxRows = None,
    epochs: paper.Epochs = None,
    seeds: paper.Seeds = None,
    on: paper.Launcher = "local",
    address: paper.Address = None,
    workers: paper.Workers = None,
    gpus: paper.Gpus = None,
    cpus: paper.Cpus = None,
    keep_adapters: paper.Keep = "best",
    html: Page = None,
    dry_run: paper.DryRun = False,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Run what the results lack, then write every table and figure: run and report in one."""
    asked = paper.Asked(edition, backbone, data, out, exhibits, tasks, budget, max_rows, epochs, seeds, device, dtype)
    how = paper.How(on, address, workers, gpus, cpus, keep_adapters).checked()
    request = paper.requested(asked)
    if dry_run:
        paper.planned(request, budget, as_json)
        return
    check_drawing()
    told = paper.ran(request, asked, how, context.meta[GIVEN])
    name = request.edition.name
    again = shlex.join(["polytask", "paper", "report", "--edition", name, "--out", out])
    drawn = reported(name, out, request.backbone.name, html, again)
    if as_json:
        emit({**told, **drawn})
        return
    screen.terminal().print(paper.run_in_words(told), soft_wrap=True)
    say_report(drawn)


def reported(edition: str, out: str, backbone: str | None, html: str | None, command: str) -> dict[str, Any]:
    """Write all exhibits and the page; what was written. ``command`` stands on the page: it draws it again."""
    from polytask.paper.report import Background, write_report

    ledger, entries = read(out, edition)
    folder = ledger.folder / "exhibits"
    background = Background.of(ledger)
    with working("drawing"):
        written = write_report(
            entries, folder, edition=edition, html=html, backbone=backbone, background=background, command=command
        )
    return {
        "html": str(written.html),
        "exhibits_folder": str(folder),
        "files": [str(file) for file in written.files],
        "exhibits": {one.exhibit.name: one.reading for one in written.exhibits if one.reading},
        "left_out": {one.exhibit.name: one.why_empty for one in written.exhibits if one.why_empty},
    }


def say_report(told: dict[str, Any]) -> None:
    """Where the exhibits are, and which have nothing to show."""
    screen.notes(screen.terminal(stderr=True), [f"{name} is left out: {why}" for name, why in told["left_out"].items()])
    screen.terminal().print(f"{len(told['files'])} files in {told['exhibits_folder']}", soft_wrap=True)
    screen.terminal().print(f"the page: {told['html']}", soft_wrap=True)


def read(out: str, edition: str) -> tuple[Ledger, Sequence[Entry]]:
    """The entries of an edition.

    Raises:
        DataError: there are none, or a file is not an entry.
    """
    from polytask.paper.ledger import Ledger

    ledger = Ledger(out, edition)
    with working("reading the results"):
        entries = list(ledger.entries())
    if entries:
        return ledger, entries
    there = sorted(path.name for path in Path(out).glob("*") if any(path.glob("????????????????.json")))
    known = f"Give --edition {' or --edition '.join(there)}, or run" if there else "Run"
    raise DataError(
        "nothing has been run here",
        file=ledger.folder,
        fix=f"{known}: polytask paper run --edition {edition} --out {out}",
    )
