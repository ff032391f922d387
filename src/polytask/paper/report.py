"""All exhibits as files and on one HTML page: the results beside the paper's, what was run, what is missing."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from polytask.errors import DataError
from polytask.files import write_text
from polytask.paper.caution import caution
from polytask.paper.claim_report import ClaimReport
from polytask.paper.contamination import backbone_in_words, seen_by
from polytask.paper.edition import Edition, of_exhibit, trials
from polytask.paper.exhibit import Exhibit
from polytask.paper.exhibits import EXHIBITS
from polytask.paper.ledger import Entry, Ledger
from polytask.paper.page import Section, render_page
from polytask.paper.run import description_path
from polytask.paper.selection import FAMILIES, NothingToShow, of_one_backbone, on_one_data, runs_of
from polytask.paper.table import MISSING, Cell, Column, Table, text_table
from polytask.paper.wording import listed, number_of

TITLE = "Parameter-efficient transfer learning: the paper’s tables and figures"


@dataclass(frozen=True)
class Background:
    """What is known of an edition besides its entries: its plans (None if unknown), and what a budget cut."""

    edition: Edition | None = None
    cut: tuple[str, ...] = ()

    @classmethod
    def of(cls, ledger: Ledger) -> Background:
        """As the last run described it; if none did, every exhibit is drawn from all entries.

        Raises:
            DataError: the description is damaged.
        """
        path = description_path(ledger)
        if not path.exists():
            return cls()
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            return cls(Edition.from_json(values["edition"]), tuple(values["cut"]))
        except (OSError, ValueError, KeyError, TypeError):
            raise DataError("this does not describe an edition", file=path, fix="Remove it and run again") from None

    @cached_property
    def planned(self) -> Mapping[str, int]:
        """The number of trials of each plan."""
        plans = self.edition.plans if self.edition else ()
        return {plan.exhibit: len(list(trials(self.edition, plan.exhibit))) for plan in plans if self.edition}

    @property
    def remarks(self) -> tuple[str, ...]:
        """What was cut, in words."""
        return tuple(f"cut to fit a budget: {line}" for line in self.cut)

    def draws(self, entries: Sequence[Entry], plan: str) -> Sequence[Entry]:
        """The entries that a plan asks for, so that methods have equal numbers of trials."""
        return of_exhibit(entries, self.edition, plan) if self.edition and plan in self.planned else entries


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


def shown(exhibit: Exhibit, entries: Sequence[Entry], background: Background) -> Shown:
    """An exhibit of the results on one backbone."""
    plan = exhibit.plan or exhibit.name
    own = background.draws(entries, plan)
    planned = background.planned.get(plan, 0)
    lacking = (f"{exhibit.title}: {len(own):,} of {planned:,} trials are run.",) if len(own) < planned else ()
    runs = runs_of(own)
    try:
        rows = exhibit.rows(runs)
    except NothingToShow as nothing:
        return Shown(exhibit, missing=lacking, why_empty=str(nothing))
    missing, marks = (*lacking, *exhibit.missing(rows)), tuple(_marks(exhibit, rows, runs))
    return Shown(exhibit, rows, exhibit.table(rows), _reading(exhibit, rows, runs), missing, marks)


def reading(exhibit: Exhibit, entries: Sequence[Entry]) -> str:
    """What an exhibit says, after warnings that make it mean little; tables include these themselves."""
    runs = runs_of(entries)
    return _reading(exhibit, exhibit.rows(runs), runs)


def _reading(exhibit: Exhibit, rows: pd.DataFrame, runs: pd.DataFrame) -> str:
    return f"{'' if exhibit.own_table else caution(runs)} {exhibit.reading(rows)}".strip()


def _marks(exhibit: Exhibit, rows: pd.DataFrame, runs: pd.DataFrame) -> Iterator[str]:
    """What a figure cannot say in footnotes: which of its tasks are samples, seen by the backbone, or capped."""
    if exhibit.own_table:
        return
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
    files = [file for one in exhibits for file in _write_exhibit(one, folder)]
    files += _write_table(claim.tasks, folder, "claim") if claim else []
    target = Path(html) if html is not None else folder / "index.html"
    about = f"Edition {edition} on {backbone_in_words(kept)}, {number_of(len(kept), 'run')}. {date.today():%d %B %Y}."
    sections = [
        _glance(exhibits),
        *(claim.sections() if claim else ()),
        *(_section(one, folder) for one in exhibits),
        *_background_sections(exhibits, kept, edition, [*background.remarks, *left_out]),
    ]
    write_text(target, render_page(TITLE, about, sections, command))
    return Written(target, folder, (*files, target), exhibits, claim)


def _write_table(table: Table, folder: Path, name: str) -> list[Path]:
    """Write a table in three forms."""
    texts = {"md": table.markdown(), "tex": table.latex(), "csv": table.csv()}
    for kind, text in texts.items():
        write_text(folder / f"{name}.{kind}", text)
    return [folder / f"{name}.{kind}" for kind in texts]


def _write_exhibit(one: Shown, folder: Path) -> list[Path]:
    """Write the files of an exhibit; if it has nothing to show, remove those of an earlier report."""
    name = one.exhibit.name
    if one.table is None:
        for kind in ("md", "tex", "csv", "png", "svg"):
            (folder / f"{name}.{kind}").unlink(missing_ok=True)
        return []
    figures = [folder / f"{name}.{kind}" for kind in ("png", "svg")] if one.exhibit.draw else []
    for path in figures:
        one.exhibit.draw(one.rows, path)  # type: ignore[misc]
    return [*_write_table(one.table, folder, name), *figures]


def _glance(exhibits: Sequence[Shown]) -> Section:
    readings = [(one.exhibit.title, one.reading) for one in exhibits if one.reading]
    return Section("glance", "At a glance", table=text_table("At a glance", ("exhibit", "what came out"), readings))


def _section(one: Shown, folder: Path) -> Section:
    own, is_drawn = one.exhibit, one.table is not None and one.exhibit.draw is not None
    svg = (folder / f"{own.name}.svg").read_text(encoding="utf-8") if is_drawn else None
    return Section(own.name, own.title, one.reading, own.in_paper, svg, one.table, one.marks, one.why_empty)


def _background_sections(
    exhibits: Sequence[Shown], entries: Sequence[Entry], edition: str, remarks: Sequence[str]
) -> Iterator[Section]:
    """What was run on what, and what is missing."""
    yield Section("run", "What was run", table=_facts("What was run", _run_facts(entries, edition)), remarks=remarks)
    yield Section("machine", "Hardware and versions", table=_facts("Hardware and versions", _machine_facts(entries)))
    yield Section("data", "The rows", table=_data_table(entries))
    lacking = [f"{one.exhibit.title}: {one.why_empty}." for one in exhibits if one.why_empty]
    lacking += [sentence for one in exhibits for sentence in one.missing]
    lead = "" if lacking else "Nothing: every exhibit has all its tasks and methods."
    yield Section("missing", "What is missing", lead, remarks=lacking)


_CAPS: Mapping[str, Callable[[Entry], Any]] = {
    "training rows of a task at most": lambda entry: entry.trial.max_rows,
    "validation rows of a task at most": lambda entry: entry.trial.max_validation,
    "test rows of a task at most": lambda entry: entry.trial.max_test,
    "tokens of a text": lambda entry: entry.trial.recipe.get("max_length"),
}


def _run_facts(entries: Sequence[Entry], edition: str) -> dict[str, str]:
    diverged = sum(entry.test is None for entry in entries)
    by_family = runs_of(entries).method.value_counts()
    families = [f"{FAMILIES.get(name, 'other methods')} {count:,}" for name, count in by_family.items()]
    found = {what: _distinct(map(cap_of, entries)) for what, cap_of in _CAPS.items()}
    caps = [f"{' or '.join(f'{cap:,}' for cap in own)} {what}" for what, own in found.items() if own]
    return {
        "edition": edition,
        "runs": f"{len(entries):,}, each one recipe with one seed on one task; {diverged:,} diverged",
        "of methods": listed(families),
        "tasks": f"{len({(entry.trial.suite, entry.trial.task) for entry in entries})}",
        "seeds": listed([str(seed) for seed in _distinct(entry.trial.seed for entry in entries)]),
        "caps": ", ".join(caps) or "none",
        "epochs": listed([f"{count}" for count in _distinct(entry.epochs for entry in entries)]),
        "time": f"{sum(entry.seconds for entry in entries) / 3600:.1f} hours of training and validation",
    }


def _machine_facts(entries: Sequence[Entry]) -> dict[str, str]:
    with_backbone = [entry for entry in entries if entry.backbone["name"] is not None]
    facts = {}
    if with_backbone:
        of = with_backbone[0].backbone
        size = f"{of['layers']} layers of {of['hidden']}, {of['parameters']:,} parameters"
        facts = {"backbone": f"{of['name']} ({of['architecture']}, {size})", "fingerprint": of["fingerprint"]}
    for name in ("hardware", "cores", "threads", "device", "dtype"):
        facts[name] = listed(_distinct(str(e.environment[name]) for e in with_backbone if name in e.environment))
    versions: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        for name, version in entry.environment.get("versions", {}).items():
            versions[name].add(str(version))
    return {**facts, "versions": ", ".join(f"{name} {' / '.join(sorted(own))}" for name, own in versions.items())}


def _data_table(entries: Sequence[Entry]) -> Table:
    splits = ("train", "validation", "test")
    columns = [Column(name, is_number=name in splits) for name in ("task", *splits, "digest", "remarks")]
    first = {(entry.trial.suite, entry.trial.task): entry.data for entry in reversed(entries)}
    rows = []
    for (_, task), data in sorted(first.items()):
        counts = [Cell.number(data.get(name), form=",d") for name in splits]
        notes = " ".join(f"{note.removeprefix(f'{task}: ')}." for note in data.get("notes", ()))
        rows.append((Cell(task), *counts, Cell(str(data.get("digest", MISSING))[:12]), Cell(notes)))
    return Table("The rows", tuple(columns), (tuple(rows),))


def _facts(title: str, facts: Mapping[str, str]) -> Table:
    return text_table(title, ("", ""), [(name, value) for name, value in facts.items() if value])


def _distinct(values: Iterable[Any]) -> list[Any]:
    """The different values in ascending order, without None."""
    return sorted({value for value in values if value is not None})
