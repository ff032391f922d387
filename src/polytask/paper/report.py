"""All exhibits in files and on one page: what came out, beside what the paper says, what was run, what is missing."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from polytask.errors import DataError
from polytask.files import write_text
from polytask.paper.caution import caution
from polytask.paper.contamination import backbone_in_words, seen_by
from polytask.paper.edition import Edition, of_exhibit, trials
from polytask.paper.exhibits import EXHIBITS, Exhibit
from polytask.paper.ledger import Entry, Ledger
from polytask.paper.page import Part, page
from polytask.paper.run import about as about_edition
from polytask.paper.selection import FAMILIES, NothingToShow, of_one_backbone, on_one_data, settings
from polytask.paper.table import MISSING, Cell, Column, Table
from polytask.paper.wording import listed, number_of

Draws = Callable[[Sequence[Entry], str], Sequence[Entry]]
"""Which of the entries an exhibit is drawn from, by the name of its plan."""


def every_entry(entries: Sequence[Entry], plan: str) -> Sequence[Entry]:
    """All of them."""
    return entries


@dataclass(frozen=True)
class Background:
    """What the ledger says of its edition, beside its entries.

    Attributes:
        draws: of every exhibit what its plan asks for, so that methods have equal numbers of trials.
        planned: how many trials that is, by plan.
        remarks: what a budget cut.
    """

    draws: Draws = every_entry
    planned: Mapping[str, int] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    @classmethod
    def of(cls, ledger: Ledger) -> Background:
        """As the last run described it; every exhibit is drawn from all entries where none did."""
        path = about_edition(ledger)
        if not path.exists():
            return cls()
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            edition = Edition.from_json(values["edition"])
        except (OSError, ValueError, KeyError, TypeError):
            raise DataError("this does not describe an edition", file=path, fix="Remove it and run again") from None
        known = {plan.exhibit for plan in edition.plans}

        def draws(entries: Sequence[Entry], plan: str) -> Sequence[Entry]:
            return of_exhibit(entries, edition, plan) if plan in known else entries

        planned = {plan: len(list(trials(edition, plan))) for plan in known}
        return cls(draws, planned, tuple(f"cut to fit a budget: {line}" for line in values["cut"]))


@dataclass(frozen=True)
class Shown:
    """An exhibit with what it shows, or why it shows nothing."""

    exhibit: Exhibit
    entries: Sequence[Entry]
    table: Table | None = None
    reading: str = ""
    missing: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    why_empty: str = ""


def shown(exhibit: Exhibit, entries: Sequence[Entry], background: Background) -> Shown:
    """An exhibit of a ledger of one backbone."""
    plan = exhibit.plan or exhibit.name
    own = background.draws(entries, plan)
    planned = background.planned.get(plan, 0)
    lacking = [f"{exhibit.title}: {len(own):,} of {planned:,} trials are run."] if len(own) < planned else []
    try:
        missing = (*lacking, *exhibit.missing(own))
        return Shown(exhibit, own, exhibit.table(own), reading(exhibit, own), missing, tuple(_marks(exhibit, own)))
    except NothingToShow as nothing:
        return Shown(exhibit, own, missing=tuple(lacking), why_empty=str(nothing))


def reading(exhibit: Exhibit, entries: Sequence[Entry]) -> str:
    """What an exhibit comes to, and before that what makes it mean little; tables say that themselves."""
    first = "" if exhibit.has_footnotes else caution(entries)
    return f"{first} {exhibit.reading(entries)}".strip()


def _marks(exhibit: Exhibit, entries: Sequence[Entry]) -> Iterator[str]:
    """What a table says in footnotes and a figure cannot: which of its tasks are samples, or known to the backbone."""
    if exhibit.has_footnotes:
        return
    rows = exhibit.rows(entries)
    suites = {row["suite"] for row in rows if "suite" in row}
    tasks = {row["task"] for row in rows if "task" in row}
    drawn = [e for e in entries if e.trial.task in tasks or e.trial.suite in suites or not (tasks or suites)]
    samples = sorted({entry.trial.task for entry in drawn if entry.data.get("is_sample")})
    seen = sorted({entry.trial.task for entry in drawn} & seen_by(drawn))
    if samples:
        yield f"Samples of the official rows, not comparable with the paper: {listed(samples)}."
    if seen:
        yield f"The backbone saw texts of these in its own training: {listed(seen)}."
    if caps := sorted({entry.trial.max_rows for entry in drawn if entry.trial.max_rows is not None}):
        yield f"Trained on {listed([f'{cap:,}' for cap in caps], 'or')} rows of a task at most."


@dataclass(frozen=True)
class Written:
    """What ``write_report`` wrote."""

    html: Path
    files: tuple[Path, ...]
    exhibits: tuple[Shown, ...]


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
    """Write every exhibit as Markdown, LaTeX, CSV, PNG and SVG into ``folder`` and all of them on one page.

    Args:
        entries: of one edition.
        folder: is made where it is not there.
        edition: its name.
        html: the page; ``folder/index.html`` unless given.
        backbone: whose entries, where the ledger holds several backbones.
        background: of the edition; every exhibit is drawn from all entries unless given.
        command: makes it again.

    Raises:
        NothingToShow: there are no entries.
        UnknownName: no entry is of this backbone.
        PolytaskError: there are several backbones and none was named, or matplotlib is not installed.
    """
    if not entries:
        raise NothingToShow(
            f"the ledger of the edition {edition} is empty: nothing has been run. Run polytask paper run"
        )
    folder = Path(folder)
    background = background or Background()
    kept, left_out = on_one_data(of_one_backbone(entries, backbone))
    remarks = [*background.remarks, *left_out]
    exhibits = tuple(shown(exhibit, kept, background) for exhibit in EXHIBITS.values())
    files = [file for one in exhibits for file in _write(one, folder)]
    target = Path(html) if html is not None else folder / "index.html"
    parts = [_glance(exhibits), *(_part(one, folder) for one in exhibits), *about(kept, edition, remarks)]
    parts.append(_missing(exhibits))
    subtitle = (
        f"Edition {edition} on {backbone_in_words(kept)}, {number_of(len(kept), 'run')}. {date.today():%d %B %Y}."
    )
    text = page("Parameter-efficient transfer learning: the paper’s tables and figures", subtitle, parts, command)
    write_text(target, text)
    return Written(target, (*files, target), exhibits)


def _write(one: Shown, folder: Path) -> Iterable[Path]:
    """The files of an exhibit; those of an earlier report are removed where it has nothing to show now."""
    paths = {kind: folder / f"{one.exhibit.name}.{kind}" for kind in ("md", "tex", "csv", "png", "svg")}
    if one.table is None:
        for path in paths.values():
            path.unlink(missing_ok=True)
        return []
    write_text(paths["md"], one.table.markdown())
    write_text(paths["tex"], one.table.latex())
    write_text(paths["csv"], one.table.csv())
    if one.exhibit.draw is None:
        return [paths[kind] for kind in ("md", "tex", "csv")]
    one.exhibit.draw(one.entries, paths["png"])
    one.exhibit.draw(one.entries, paths["svg"])
    return list(paths.values())


def _part(one: Shown, folder: Path) -> Part:
    exhibit, svg = one.exhibit, None
    if one.table is not None and exhibit.draw is not None:
        svg = (folder / f"{exhibit.name}.svg").read_text(encoding="utf-8")
    said = {"lead": one.reading, "paper": exhibit.in_paper, "why_empty": one.why_empty}
    return Part(exhibit.name, exhibit.title, svg=svg, table=one.table, remarks=one.marks, **said)


def _glance(exhibits: Sequence[Shown]) -> Part:
    """Every reading in one place."""
    rows = tuple((Cell(one.exhibit.title), Cell(one.reading)) for one in exhibits if one.reading)
    return Part("glance", "At a glance", table=_prose("At a glance", ("exhibit", "what came out"), rows))


def _missing(exhibits: Sequence[Shown]) -> Part:
    """What a reader would look for and not find."""
    lacking = [f"{one.exhibit.title}: {one.why_empty}." for one in exhibits if one.why_empty]
    lacking += [sentence for one in exhibits for sentence in one.missing]
    lead = "" if lacking else "Nothing: every exhibit has all its tasks and methods."
    return Part("missing", "What is missing", lead=lead, remarks=lacking)


def about(entries: Sequence[Entry], edition: str, remarks: Sequence[str] = ()) -> list[Part]:
    """What was run, on what, and on which rows."""
    return [
        Part("run", "What was run", table=_run(entries, edition), remarks=remarks),
        Part("machine", "On what", table=_machine(entries)),
        Part("data", "The rows", table=_data(entries)),
    ]


def _run(entries: Sequence[Entry], edition: str) -> Table:
    diverged = sum(entry.test is None for entry in entries)
    by_family = Counter(setting.family for setting in settings(entries) for _ in setting.entries)
    families = [f"{FAMILIES.get(name, 'other methods')} {count:,}" for name, count in by_family.most_common()]
    seeds = sorted({entry.trial.seed for entry in entries})
    facts = {
        "edition": edition,
        "runs": f"{len(entries):,}, each one recipe with one seed on one task; {diverged:,} diverged",
        "of methods": listed(families),
        "tasks": f"{len({(entry.trial.suite, entry.trial.task) for entry in entries})}",
        "seeds": listed([str(seed) for seed in seeds]),
        "caps": _caps(entries),
        "epochs": listed([f"{count}" for count in sorted({e.epochs for e in entries if e.epochs is not None})]),
        "time": f"{sum(entry.seconds for entry in entries) / 3600:.1f} hours of training and validation",
    }
    return _facts("What was run", facts)


def _caps(entries: Sequence[Entry]) -> str:
    """What the trials limit, in words."""
    said = []
    for name, what in (("max_rows", "training"), ("max_validation", "validation"), ("max_test", "test")):
        caps = sorted({cap for entry in entries if (cap := getattr(entry.trial, name, None)) is not None})
        said += [f"{' or '.join(f'{cap:,}' for cap in caps)} {what} rows of a task at most"] if caps else []
    lengths = sorted({entry.trial.recipe["max_length"] for entry in entries if "max_length" in entry.trial.recipe})
    said += [f"{' or '.join(map(str, lengths))} tokens of a text"] if lengths else []
    return ", ".join(said) or "none"


def _machine(entries: Sequence[Entry]) -> Table:
    with_backbone = [entry for entry in entries if entry.backbone["name"] is not None]
    facts = {}
    if with_backbone:
        of = with_backbone[0].backbone
        size = f"{of['layers']} layers of {of['hidden']}, {of['parameters']:,} parameters"
        facts = {"backbone": f"{of['name']} ({of['architecture']}, {size})", "fingerprint": of["fingerprint"]}
    for name in ("hardware", "cores", "threads", "device", "dtype"):
        facts[name] = listed(sorted({str(e.environment[name]) for e in with_backbone if name in e.environment}))
    versions: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        for name, version in entry.environment.get("versions", {}).items():
            versions[name].add(str(version))
    facts["versions"] = ", ".join(f"{name} {' / '.join(sorted(found))}" for name, found in versions.items())
    return _facts("On what", facts)


def _data(entries: Sequence[Entry]) -> Table:
    columns = (
        Column("task", is_number=False),
        *(Column(name) for name in ("train", "validation", "test")),
        Column("digest", is_number=False),
        Column("remarks", is_number=False),
    )
    first = {(entry.trial.suite, entry.trial.task): entry.data for entry in reversed(entries)}
    rows = []
    for (_, task), data in sorted(first.items()):
        counts = [Cell.number(data.get(name), form=",d") for name in ("train", "validation", "test")]
        notes = " ".join(f"{note.removeprefix(f'{task}: ')}." for note in data.get("notes", ()))
        rows.append((Cell(task), *counts, Cell(str(data.get("digest", MISSING))[:12]), Cell(notes)))
    return Table("The rows", columns, (tuple(rows),))


def _facts(title: str, facts: dict[str, Any]) -> Table:
    rows = tuple((Cell(name), Cell(str(value))) for name, value in facts.items() if value)
    return _prose(title, ("", ""), rows)


def _prose(title: str, headings: Sequence[str], rows: tuple[tuple[Cell, ...], ...]) -> Table:
    return Table(title, tuple(Column(heading, is_number=False) for heading in headings), (rows,))
