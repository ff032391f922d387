"""``polytask paper show``, ``report`` and ``all``: the paper's tables and figures from what was run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polytask.cli import console
from polytask.cli.options import working
from polytask.errors import DataError

if TYPE_CHECKING:
    from polytask.paper.ledger import Entry, Ledger

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
    console.notes(
        console.terminal(stderr=True), [f"{name} is left out: {why}" for name, why in told["left_out"].items()]
    )
    console.terminal().print(f"{len(told['files'])} files in {told['exhibits_folder']}", soft_wrap=True)
    console.terminal().print(f"the page: {told['html']}", soft_wrap=True)


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
