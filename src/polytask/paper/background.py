"""What is known of an edition besides its entries, what was run on what, and what is missing."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from polytask.drawing.table import MISSING, Cell, Table, columns_of
from polytask.errors import DataError
from polytask.paper.edition import Edition, of_exhibit, trials
from polytask.paper.ledger import Entry, Ledger
from polytask.paper.run import description_path
from polytask.paper.selection import FAMILIES, runs_of
from polytask.wording import listed

SPLITS = ("train", "validation", "test")
CAPS: Mapping[str, Callable[[Entry], Any]] = {
    "training rows of a task at most": lambda entry: entry.trial.max_rows,
    "validation rows of a task at most": lambda entry: entry.trial.max_validation,
    "test rows of a task at most": lambda entry: entry.trial.max_test,
    "tokens of a text": lambda entry: entry.trial.recipe.get("max_length"),
}


@dataclass(frozen=True)
class Background:
    """The plans of an edition (None if unknown), and what a budget cut."""

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


def run_facts(entries: Sequence[Entry], edition: str) -> dict[str, str]:
    """What was run: how many trials of which methods on how many tasks, within which caps."""
    diverged = sum(entry.test is None for entry in entries)
    by_family = runs_of(entries).method.value_counts()
    families = [f"{FAMILIES.get(name, 'other methods')} {count:,}" for name, count in by_family.items()]
    found = {what: _distinct(map(cap_of, entries)) for what, cap_of in CAPS.items()}
    caps = [f"{' or '.join(f'{cap:,}' for cap in own)} {what}" for what, own in found.items() if own]
    return {
        "edition": edition,
        "runs": f"{len(entries):,}, each one recipe with one seed on one task; {diverged:,} diverged",
        "of methods": listed(families),
        "tasks": f"{len({(entry.trial.suite, entry.trial.task) for entry in entries})}",
        "seeds": listed(list(map(str, _distinct(entry.trial.seed for entry in entries)))),
        "caps": ", ".join(caps) or "none",
        "epochs": listed(list(map(str, _distinct(entry.epochs for entry in entries)))),
        "time": f"{sum(entry.seconds for entry in entries) / 3600:.1f} hours of training and validation",
    }


def machine_facts(entries: Sequence[Entry]) -> dict[str, str]:
    """The backbone, the hardware and the versions."""
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


def rows_table(entries: Sequence[Entry]) -> Table:
    """The rows of each task: numbers, digest and notes."""
    first = {(entry.trial.suite, entry.trial.task): entry.data for entry in reversed(entries)}
    rows = []
    for (_, task), data in sorted(first.items()):
        counts = [Cell.number(data.get(name), form=",d") for name in SPLITS]
        notes = " ".join(f"{note.removeprefix(f'{task}: ')}." for note in data.get("notes", ()))
        rows.append((Cell(task), *counts, Cell(str(data.get("digest", MISSING))[:12]), Cell(notes)))
    return Table("The rows", columns_of(("task", *SPLITS, "digest", "remarks"), numbers=(1, 2, 3)), (tuple(rows),))


def _distinct(values: Iterable[Any]) -> list[Any]:
    """The different values in ascending order, without None."""
    return sorted({value for value in values if value is not None})
