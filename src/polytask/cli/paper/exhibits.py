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


def write_exhibits(edition: str, out: str, backbone: str | None, html: str | None, command: str) -> dict[str, Any]:
    """Write all exhibits and the page.

    Args:
        edition: the folder under ``out``.
        out: the folder of the results.
        backbone: which backbone, if there are results of several.
        html: the page; None for ``index.html`` beside the exhibits.
        command: the command that writes the page again, which is printed on it.

    Returns:
        What was written and what was left out, as ``paper report --json`` prints it.
    """
    from polytask.paper.report import Background, write_report

    ledger, entries = read_results(out, edition)
    folder = ledger.folder / "exhibits"
    background = Background.of(ledger)
    with spinner("drawing"):
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


def show_report(written: dict[str, Any]) -> None:
    """Print where the exhibits are, and which have nothing to show."""
    console.notes(
        console.terminal(stderr=True), [f"{name} is left out: {why}" for name, why in written["left_out"].items()]
    )
    console.terminal().print(f"{len(written['files'])} files in {written['exhibits_folder']}", soft_wrap=True)
    console.terminal().print(f"the page: {written['html']}", soft_wrap=True)


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
