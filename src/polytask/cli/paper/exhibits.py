"""Reads the results of an edition and writes its tables and figures, for ``show``, ``report`` and ``all``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polytask.cli import console
from polytask.cli.options import spinner
from polytask.errors import DataError

if TYPE_CHECKING:
    from polytask.paper.ledger import Entry, Ledger
    from polytask.paper.report import Written


def write_exhibits(edition: str, out: str, backbone: str | None, html: str | None, command: str) -> Written:
    """Write all exhibits and the page.

    Args:
        edition: the folder under ``out``.
        out: the folder of the results.
        backbone: which backbone, if there are results of several.
        html: the page; None for ``index.html`` beside the exhibits.
        command: the command that writes the page again, which is printed on it.
    """
    from polytask.paper.background import Background
    from polytask.paper.report import write_report

    ledger, entries = read_results(out, edition)
    folder, background = ledger.folder / "exhibits", Background.of(ledger)
    with spinner("drawing"):
        return write_report(
            entries, folder, edition=edition, html=html, backbone=backbone, background=background, command=command
        )


def report_json(written: Written) -> dict[str, Any]:
    """What was written and what was left out, as ``paper report --json`` prints it."""
    return {
        "html": str(written.html),
        "exhibits_folder": str(written.folder),
        "files": [str(file) for file in written.files],
        "exhibits": {one.exhibit.name: one.reading for one in written.exhibits if one.reading},
        "left_out": {one.exhibit.name: one.why_empty for one in written.exhibits if one.why_empty},
        "claim": written.claim.to_json() if written.claim else None,
    }


def show_report(written: Written) -> None:
    """Print the claims, where the exhibits are, and which have nothing to show."""
    left_out = [f"{one.exhibit.name} is left out: {one.why_empty}" for one in written.exhibits if one.why_empty]
    console.notes(console.terminal(stderr=True), left_out)
    out = console.terminal()
    if written.claim:
        out.print(written.claim.tasks.rich())
        out.print(written.claim.verdicts.rich())
        out.print(written.claim.headline, soft_wrap=True)
    out.print(f"{len(written.files)} files in {written.folder}", soft_wrap=True)
    out.print(f"the page: {written.html}", soft_wrap=True)


def read_results(out: str, edition: str) -> tuple[Ledger, Sequence[Entry]]:
    """The results of an edition.

    Raises:
        DataError: there are none, or a file is not a result.
    """
    from polytask.paper.ledger import Ledger

    ledger = Ledger(out, edition)
    with spinner("reading the results"):
        entries = list(ledger.entries())
    if entries:
        return ledger, entries
    there = sorted(path.name for path in Path(out).glob("*") if any(path.glob("????????????????.json")))
    known = f"Give --edition {' or --edition '.join(there)}, or run" if there else "Run"
    raise DataError(
        "there are no results here",
        file=ledger.folder,
        fix=f"{known}: polytask paper run --edition {edition} --out {out}",
    )
