"""All exhibits as files and on one HTML page: the results beside the paper's, what was run, what is missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd

from polytask.drawing.exhibit import Exhibit, NothingToShow
from polytask.drawing.figures import inline_svg
from polytask.drawing.page import Section, render_page
from polytask.drawing.table import Table, text_table
from polytask.evaluation.caution import caution
from polytask.files import write_text
from polytask.paper.background import Background, machine_facts, rows_table, run_facts
from polytask.paper.claim_report import ClaimReport
from polytask.paper.exhibits import EXHIBITS
from polytask.paper.ledger import TFIDF, Entry
from polytask.paper.selection import backbone_in_words, of_one_backbone, on_one_data, runs_of, seen_by
from polytask.wording import counted, listed

TITLE = "Parameter-efficient transfer learning: the paper’s tables and figures"


@dataclass(frozen=True)
class Shown:
    """An exhibit with the rows that it shows, or why it shows nothing."""

    exhibit: Exhibit
    rows: pd.DataFrame | None = None
    table: Table | None = None
    reading: str = ""
    missing: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    why_empty: str = ""

    @property
    def records(self) -> list[dict[str, Any]]:
        """What is shown of the rows, as dicts."""
        return [] if self.rows is None else self.exhibit.records(self.rows)

    def write(self, folder: Path) -> list[Path]:
        """Write the files of the exhibit; if it has nothing to show, remove those of an earlier report."""
        name = self.exhibit.name
        if self.rows is None or self.table is None:
            for kind in ("md", "tex", "csv", "png", "svg"):
                (folder / f"{name}.{kind}").unlink(missing_ok=True)
            return []
        figures = [folder / f"{name}.{kind}" for kind in ("png", "svg")] if self.exhibit.draw else []
        for path in figures:
            self.exhibit.draw(self.rows, path)  # type: ignore[misc]
        return [*self.table.write(folder, name), *figures]

    def section(self, folder: Path) -> Section:
        """The section of the page, with the figure that was written into the folder."""
        own, is_drawn = self.exhibit, self.table is not None and self.exhibit.draw is not None
        svg = inline_svg((folder / f"{own.name}.svg").read_text(encoding="utf-8")) if is_drawn else None
        return Section(own.name, own.title, self.reading, own.in_paper, svg, self.table, self.marks, self.why_empty)


def shown(exhibit: Exhibit, entries: Sequence[Entry], background: Background) -> Shown:
    """An exhibit of the results on one backbone; what it says follows warnings that make it mean little."""
    plan = exhibit.plan or exhibit.name
    own = background.draws(entries, plan)
    planned = background.planned.get(plan, 0)
    lacking = (f"{exhibit.title}: {len(own):,} of {planned:,} trials are run.",) if len(own) < planned else ()
    runs = runs_of(own)
    try:
        rows = exhibit.rows(runs)
    except NothingToShow as nothing:
        return Shown(exhibit, missing=lacking, why_empty=str(nothing))
    has_footnotes = exhibit.own_table is not None  # which say the same of each task
    warnings = "" if has_footnotes else caution(runs[(runs.method != TFIDF) & ~runs.diverged].sort_index())
    marks = () if has_footnotes else tuple(_marks(exhibit, rows, runs))
    reading = f"{warnings} {exhibit.reading(rows)}".strip()
    return Shown(exhibit, rows, exhibit.table(rows), reading, (*lacking, *exhibit.missing(rows)), marks)


def _marks(exhibit: Exhibit, rows: pd.DataFrame, runs: pd.DataFrame) -> Iterator[str]:
    """Which of a figure's tasks are samples, seen by the backbone, or capped."""
    if name := next((name for name in ("task", "suite") if name in exhibit.columns), None):
        runs = runs[runs[name].isin(rows[name])]
    if samples := sorted(set(runs.task[runs.is_sample])):
        yield f"Samples of the official rows, not comparable with the paper: {listed(samples)}."
    if seen := sorted(set(runs.task) & seen_by(runs.entry)):
        yield f"The backbone saw texts of these in its own training: {listed(seen)}."
    if caps := sorted(set(runs.max_rows.dropna())):
        yield f"Trained on {listed([f'{int(cap):,}' for cap in caps], 'or')} rows of a task at most."


@dataclass(frozen=True)
class Written:
    """What ``write_report`` wrote; ``claim`` is None if the plans of the edition are not known."""

    html: Path
    folder: Path
    files: tuple[Path, ...]
    exhibits: tuple[Shown, ...]
    claim: ClaimReport | None = None


def write_report(
    entries: Sequence[Entry],
    folder: str | Path,
    *,
    edition: str,
    html: str | Path | None = None,
    backbone: str | None = None,
    background: Background | None = None,
    command: str = "polytask paper report",
) -> Written:
    """Write every exhibit as Markdown, LaTeX, CSV, PNG and SVG into ``folder``, and one page with all of them.

    Args:
        entries: of one edition.
        folder: is created if it does not exist.
        edition: its name.
        html: the page (default: ``folder/index.html``).
        backbone: whose entries, if there are several backbones.
        background: of the edition (default: every exhibit is drawn from all entries).
        command: named on the page as what makes it again.

    Raises:
        NothingToShow: there are no entries.
        UnknownName: no entry is of this backbone.
        PolytaskError: there are several backbones and none was named, or matplotlib is not installed.
    """
    if not entries:
        raise NothingToShow(f"the edition {edition} has no results: nothing has been run. Run polytask paper run")
    folder, background = Path(folder), background or Background()
    kept, left_out = on_one_data(of_one_backbone(entries, backbone))
    exhibits = tuple(shown(exhibit, kept, background) for exhibit in EXHIBITS.values())
    claim = ClaimReport(background.edition, kept) if background.edition else None
    files = [file for one in exhibits for file in one.write(folder)]
    files += claim.tasks.write(folder, "claim") if claim else []
    target = Path(html) if html is not None else folder / "index.html"
    about = f"Edition {edition} on {backbone_in_words(kept)}, {counted(len(kept), 'run')}. {date.today():%d %B %Y}."
    readings = [(one.exhibit.title, one.reading) for one in exhibits if one.reading]
    glance = text_table("At a glance", ("exhibit", "what came out"), readings)
    sections = [
        Section("glance", "At a glance", table=glance),
        *(claim.sections() if claim else ()),
        *(one.section(folder) for one in exhibits),
        *_background_sections(exhibits, kept, edition, [*background.remarks, *left_out]),
    ]
    write_text(target, render_page(TITLE, about, sections, command))
    return Written(target, folder, (*files, target), exhibits, claim)


def _background_sections(
    exhibits: Sequence[Shown], entries: Sequence[Entry], edition: str, remarks: Sequence[str]
) -> Iterator[Section]:
    """What was run on what, and what is missing."""
    yield Section("run", "What was run", table=_facts("What was run", run_facts(entries, edition)), remarks=remarks)
    yield Section("machine", "Hardware and versions", table=_facts("Hardware and versions", machine_facts(entries)))
    yield Section("data", "The rows", table=rows_table(entries))
    lacking = [f"{one.exhibit.title}: {one.why_empty}." for one in exhibits if one.why_empty]
    lacking += [sentence for one in exhibits for sentence in one.missing]
    lead = "" if lacking else "Nothing: every exhibit has all its tasks and methods."
    yield Section("missing", "What is missing", lead, remarks=lacking)


def _facts(title: str, facts: Mapping[str, str]) -> Table:
    return text_table(title, ("", ""), [(name, value) for name, value in facts.items() if value])
