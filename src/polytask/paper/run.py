"""Runs the trials that an edition lacks and writes their entries as they end.

Only this process locks trials and writes entries. A trial is locked before its pack is handed out and unlocked once its
entry is written, so processes that run the same edition share its trials, and none is run twice.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polytask.backbones.backbone import Backbone
from polytask.file_lock import KeyLocks
from polytask.files import write_text
from polytask.launch.local import Message
from polytask.launch.training import Launch
from polytask.paper.edition import Edition, in_parts
from polytask.paper.edition import identity as identity_of
from polytask.paper.ledger import Entry, Ledger, Trial
from polytask.paper.measurements import identity
from polytask.paper.worker import ADAPTERS, UNDER_WAY, adapter_path, loaded, rows_of, work

ALONE = ("full", "top")
"""Methods that train a private copy of the backbone, and so in a pack of their own."""

JOBS = {"cpu": 8, "cuda": 32}
"""The most trials of a pack, by kind of device."""


@dataclass(frozen=True)
class Place:
    """Where trials are run and stored.

    Attributes:
        results: the folder of all editions.
        backbone: its name as ``load_backbone`` takes it, like ``device`` and ``dtype``.
        data: a folder of the suites, or None for the hub.
        jobs: the most trials of a pack.
        share: of a machine's memory for one pack.
        adapters: which to keep: ``best`` of each task and method, ``all`` or ``none``.
    """

    results: str
    backbone: str
    data: str | None = None
    device: str = "cpu"
    dtype: str = "float32"
    jobs: int = JOBS["cpu"]
    share: float = 1.0
    adapters: str = "best"


def keyed(trials: Iterable[Trial], backbone: Backbone, data: str | None) -> dict[str, Trial]:
    """Trials by their keys. Every task is read once, for its digest."""
    ordered = list(trials)
    digests: dict[tuple[Any, ...], str] = {}
    for trial in ordered:
        if (rows := rows_of(trial)) not in digests:
            digests[rows] = loaded(rows, data).task.digest
    of_backbone = identity(backbone)
    return {trial.key(of_backbone if trial.has_backbone else "", digests[rows_of(trial)]): trial for trial in ordered}


def missing(trials: Mapping[str, Trial], ledger: Ledger) -> dict[str, Trial]:
    """The trials without an entry."""
    return {key: trial for key, trial in trials.items() if key not in ledger}


def by_part(edition: Edition, trials: Mapping[str, Trial]) -> Iterator[dict[str, Trial]]:
    """Trials by the parts of the edition, in their order; others come last."""
    left = {identity_of(trial): key for key, trial in trials.items()}
    parts = in_parts(edition).values() if edition.parts else ()
    for names in (*([identity_of(trial) for trial in part] for part in parts), list(left)):
        if keys := [left.pop(name) for name in names if name in left]:
            yield {key: trials[key] for key in keys}


def packs(trials: Mapping[str, Trial], most: int) -> Iterator[dict[str, Trial]]:
    """At most so many trials that train together: of one task, equally many epochs, with deltas on one backbone.

    Private copies of the backbone train alone; trials of TF-IDF form packs of their own.
    """
    groups: dict[tuple[Any, ...], dict[str, Trial]] = defaultdict(dict)
    for key, trial in trials.items():
        method = trial.method["name"]
        kind: tuple[Any, ...] = (key,) if method in ALONE else ("words",) if not trial.has_backbone else ()
        groups[trial.task, trial.recipe.get("epochs"), kind][key] = trial
    for group in groups.values():
        for start in range(0, len(group), most):
            yield dict(list(group.items())[start : start + most])


def run(
    edition: Edition, trials: Mapping[str, Trial], place: Place, launch: Launch, cut: Sequence[str] = ()
) -> Iterator[Message]:
    """Run those of the trials that have no entry yet and that no other process runs.

    Args:
        edition: the whole one; ``cut`` says what a budget left out of it.
        trials: of the edition, by their keys.

    Yields:
        The messages of ``work``, ``{"what": "started", "keys"}`` for trials that begin here and
        ``{"what": "elsewhere", "keys"}`` for those that another process runs.
    """
    ledger = Ledger(place.results, edition.name)
    locks = KeyLocks(ledger.folder / "claims")
    describe(edition, ledger, cut)
    pending: list[Message] = []
    todo = by_part(edition, missing(trials, ledger))
    settings = {name: getattr(place, name) for name in ("data", "backbone", "device", "dtype", "share")}

    def locked() -> Iterator[Mapping[str, Any]]:
        for pack in (pack for part in todo for pack in packs(part, place.jobs)):
            ours = {key: trial for key, trial in pack.items() if _lock(key, locks, ledger)}
            if others := [key for key in pack if key not in ours and key not in ledger]:
                pending.append({"what": "elsewhere", "keys": others})
            if ours:
                pending.append({"what": "started", "keys": list(ours)})
                values = {key: trial.to_json() for key, trial in ours.items()}
                keep = place.adapters != "none"
                yield {"trials": values, "folder": str(ledger.folder), "adapters": keep, **settings}

    try:
        for message in launch(locked(), work):
            yield from _drained(pending)
            if message["what"] == "entry":
                _store(Entry.from_json(message["entry"]), ledger, locks, keep_best=place.adapters == "best")
            yield message
        yield from _drained(pending)
    finally:
        locks.release_all()


def _lock(key: str, locks: KeyLocks, ledger: Ledger) -> bool:
    """Whether the trial is now ours; not if it has an entry, perhaps written just before it was locked."""
    if key in ledger or not locks.acquire(key):
        return False
    if key in ledger:
        locks.release(key)
        return False
    return True


def _store(entry: Entry, ledger: Ledger, locks: KeyLocks, *, keep_best: bool) -> None:
    ledger.write(entry)
    (ledger.folder / UNDER_WAY / f"{entry.key}.ckpt").unlink(missing_ok=True)
    if keep_best:
        _keep_best_adapter(ledger, entry)
    locks.release(entry.key)


def describe(edition: Edition, ledger: Ledger, cut: Sequence[str]) -> None:
    """Write what the edition is, its caps and what was cut last, beside its entries: for the report."""
    values = {"edition": edition.to_json(), "caps": edition.caps(), "cut": list(cut)}
    write_text(description_path(ledger), json.dumps(values, indent=1) + "\n")


def description_path(ledger: Ledger) -> Path:
    """The file that describes the edition."""
    return ledger.folder / "about" / "edition.json"


def _keep_best_adapter(ledger: Ledger, entry: Entry) -> None:
    """Of a task and method on one backbone, keep the adapter with the best validation score and remove the others."""
    kept = [other for other in _kept(ledger, entry.trial.method["name"]) if other.trial.task == entry.trial.task]
    rivals = [other for other in kept if other.backbone == entry.backbone]
    for worse in sorted(rivals, key=lambda other: (_score(other), other.key != entry.key))[:-1]:
        adapter_path(ledger.folder, worse.key).unlink(missing_ok=True)


def best_adapters(ledger: Ledger, tasks: Sequence[str], method: str = "houlsby") -> dict[str, Entry]:
    """The entry of each task with the best validation score among those whose adapters are kept."""
    best: dict[str, Entry] = {}
    for entry in _kept(ledger, method):
        task = entry.trial.task
        if task in tasks and (task not in best or _score(entry) > _score(best[task])):
            best[task] = entry
    return best


def _kept(ledger: Ledger, method: str) -> list[Entry]:
    """The entries of a method whose adapters are kept."""
    keys = sorted(path.stem for path in (ledger.folder / ADAPTERS).glob("*.safetensors"))
    entries = [ledger.read(key) for key in keys if key in ledger]
    return [entry for entry in entries if entry.trial.method["name"] == method]


def _score(entry: Entry) -> float:
    return float("-inf") if entry.validation is None else entry.validation.score


def _drained(pending: list[Message]) -> Iterator[Message]:
    while pending:
        yield pending.pop(0)
