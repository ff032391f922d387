"""All exhibits as files and on one HTML page: the results beside the paper's, what was run, what is missing."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from polytask.errors import DataError
from polytask.files import write_text
from polytask.paper.caution import caution
from polytask.paper.contamination import backbone_in_words, seen_by
from polytask.paper.edition import Edition, of_exhibit, trials
from polytask.paper.exhibit import Exhibit
from polytask.paper.exhibits import EXHIBITS
from polytask.paper.ledger import Entry, Ledger
from polytask.paper.page import Section, render_page
from polytask.paper.run import description_path
from polytask.paper.selection import FAMILIES, NothingToShow, of_one_backbone, on_one_data, settings
from polytask.paper.table import MISSING, Cell, Column, Table
from polytask.paper.wording import listed, number_of

TITLE = "Parameter-efficient transfer learning: the paper’s tables and figures"


@dataclass(frozen=True)
class Background:
    """What is known of an edition besides its entries.

    Attributes:
        draws: selects the entries of an exhibit by the name of its plan, so that methods have equal numbers of trials.
        planned: the number of these trials, by plan.
        remarks: what a budget cut.
    """

    draws: Callable[[Sequence[Entry], str], Sequence[Entry]] = lambda entries, plan: entries
    planned: Mapping[str, int] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    @classmethod
    def of(cls, ledger: Ledger) -> Background:
        """As the last run described it; if none did, every exhibit is drawn from all entries."""
        path = description_path(ledger)
        if not path.exists():
            return cls()
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            edition = Edition.from_json(values["edition"])
        except (OSError, ValueError, KeyError, TypeError):
            raise DataError("this does not describe an edition", file=path, fix="Remove it and run again") from None
        planned = {plan.exhibit: len(list(trials(edition, plan.exhibit))) for plan in edition.plans}

        def draws(entries: Sequence[Entry], plan: str) -> Sequence[Entry]:
            return of_exhibit(entries, edition, plan) if plan in planned else entries

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
    """An exhibit of the results on one backbone."""
    plan = exhibit.plan or exhibit.name
    own = background.draws(entries, plan)
    planned = background.planned.get(plan, 0)
    lacking = (f"{exhibit.title}: {len(own):,} of {planned:,} trials are run.",) if len(own) < planned else ()
    try:
        missing = (*lacking, *exhibit.missing(own))
        return Shown(exhibit, own, exhibit.table(own), reading(exhibit, own), missing, tuple(_marks(exhibit, own)))
    except NothingToShow as nothing:
        return Shown(exhibit, own, missing=lacking, why_empty=str(nothing))


def reading(exhibit: Exhibit, entries: Sequence[Entry]) -> str:
    """What an exhibit says, after warnings that make it mean little; tables include these themselves."""
    return f"{'' if exhibit.own_table else caution(entries)} {exhibit.reading(entries)}".strip()


def _marks(exhibit: Exhibit, entries: Sequence[Entry]) -> Iterator[str]:
    """What a figure cannot say in footnotes: which of its tasks are samples, seen by the backbone, or capped."""
    if exhibit.own_table:
        return
    rows = exhibit.rows(entries)
    names = {row[key] for row in rows for key in ("suite", "task") if key in row}
    drawn = [e for e in entries if not names or names & {e.trial.task, e.trial.suite}]
    if samples := sorted({entry.trial.task for entry in drawn if entry.data.get("is_sample")}):
        yield f"Samples of the official rows, not comparable with the paper: {listed(samples)}."
    if seen := sorted({entry.trial.task for entry in drawn} & seen_by(drawn)):
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
    files = [file for one in exhibits for file in _write_exhibit(one, folder)]
    target = Path(html) if html is not None else folder / "index.html"
    about = f"Edition {edition} on {backbone_in_words(kept)}, {number_of(len(kept), 'run')}. {date.today():%d %B %Y}."
    remarks = [*background.remarks, *left_out]
    write_text(target, render_page(TITLE, about, list(_sections(exhibits, kept, edition, remarks, folder)), command))
    return Written(target, (*files, target), exhibits)


def _write_exhibit(one: Shown, folder: Path) -> list[Path]:
    """Write the files of an exhibit; if it has nothing to show, remove those of an earlier report."""
    paths = {kind: folder / f"{one.exhibit.name}.{kind}" for kind in ("md", "tex", "csv", "png", "svg")}
    if one.table is None:
        for path in paths.values():
            path.unlink(missing_ok=True)
        return []
    for kind, text in (("md", one.table.markdown()), ("tex", one.table.latex()), ("csv", one.table.csv())):
        write_text(paths[kind], text)
    if one.exhibit.draw is None:
        return list(paths.values())[:3]
    for kind in ("png", "svg"):
        one.exhibit.draw(one.entries, paths[kind])
    return list(paths.values())


def _sections(
    exhibits: Sequence[Shown], entries: Sequence[Entry], edition: str, remarks: Sequence[str], folder: Path
) -> Iterator[Section]:
    """The page: every reading, every exhibit, what was run on what, and what is missing."""
    readings = [(one.exhibit.title, one.reading) for one in exhibits if one.reading]
    yield Section("glance", "At a glance", table=_text_table("At a glance", ("exhibit", "what came out"), readings))
    for one in exhibits:
        own, svg = one.exhibit, None
        if one.table is not None and own.draw is not None:
            svg = (folder / f"{own.name}.svg").read_text(encoding="utf-8")
        yield Section(own.name, own.title, one.reading, own.in_paper, svg, one.table, one.marks, one.why_empty)
    yield Section("run", "What was run", table=_facts("What was run", _run_facts(entries, edition)), remarks=remarks)
    yield Section("machine", "Hardware and versions", table=_facts("Hardware and versions", _machine_facts(entries)))
    yield Section("data", "The rows", table=_data_table(entries))
    lacking = [f"{one.exhibit.title}: {one.why_empty}." for one in exhibits if one.why_empty]
    lacking += [sentence for one in exhibits for sentence in one.missing]
    lead = "" if lacking else "Nothing: every exhibit has all its tasks and methods."
    yield Section("missing", "What is missing", lead, remarks=lacking)


def _run_facts(entries: Sequence[Entry], edition: str) -> dict[str, str]:
    diverged = sum(entry.test is None for entry in entries)
    by_family = Counter(setting.family for setting in settings(entries) for _ in setting.entries)
    families = [f"{FAMILIES.get(name, 'other methods')} {count:,}" for name, count in by_family.most_common()]
    return {
        "edition": edition,
        "runs": f"{len(entries):,}, each one recipe with one seed on one task; {diverged:,} diverged",
        "of methods": listed(families),
        "tasks": f"{len({(entry.trial.suite, entry.trial.task) for entry in entries})}",
        "seeds": listed([str(seed) for seed in sorted({entry.trial.seed for entry in entries})]),
        "caps": _caps(entries),
        "epochs": listed([f"{count}" for count in sorted({e.epochs for e in entries if e.epochs is not None})]),
        "time": f"{sum(entry.seconds for entry in entries) / 3600:.1f} hours of training and validation",
    }


def _caps(entries: Sequence[Entry]) -> str:
    said = []
    for name, what in (("max_rows", "training"), ("max_validation", "validation"), ("max_test", "test")):
        caps = sorted({cap for entry in entries if (cap := getattr(entry.trial, name)) is not None})
        said += [f"{' or '.join(f'{cap:,}' for cap in caps)} {what} rows of a task at most"] if caps else []
    lengths = sorted({entry.trial.recipe["max_length"] for entry in entries if "max_length" in entry.trial.recipe})
    said += [f"{' or '.join(map(str, lengths))} tokens of a text"] if lengths else []
    return ", ".join(said) or "none"


def _machine_facts(entries: Sequence[Entry]) -> dict[str, str]:
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
    return _text_table(title, ("", ""), [(name, value) for name, value in facts.items() if value])


def _text_table(title: str, headings: tuple[str, str], rows: Sequence[tuple[str, str]]) -> Table:
    columns = tuple(Column(heading, is_number=False) for heading in headings)
    return Table(title, columns, (tuple(tuple(map(Cell, row)) for row in rows),))
