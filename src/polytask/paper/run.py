"""The trials that an edition lacks, run by a launcher and written to the ledger as they end.

This process alone claims trials and writes entries. A claim is taken before a pack is given out and given up once its
entry is written, so that two processes that run the same edition share its trials, and none is run twice.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polytask.backbones.backbone import Backbone
from polytask.files import write_text
from polytask.paper.edition import Edition, in_parts
from polytask.paper.edition import identity as identity_of
from polytask.paper.ledger import Entry, Ledger, Trial
from polytask.paper.locks import Claims
from polytask.paper.measurements import identity
from polytask.paper.worker import ADAPTERS, UNDER_WAY, adapter_path, loaded, rows_of, work

Message = dict[str, Any]
Launch = Callable[[Iterator[Mapping[str, Any]], Any], Iterator[Message]]
"""``launch.local.run_packs`` or ``launch.ray.run_packs`` with its options."""

ALONE = ("full", "top")
JOBS = {"cpu": 8, "cuda": 32}
"""Trials of a pack."""


@dataclass(frozen=True)
class Place:
    """Where trials are run and kept.

    Attributes:
        results: the folder of all editions.
        backbone: its name as ``load_backbone`` takes it.
        data: a folder of the suites, or None for the hub.
        device: and ``dtype``, as ``load_backbone`` takes them.
        jobs: trials of a pack.
        share: of a machine's memory for one pack.
        adapters: ``best`` keeps the adapter of a task's best trial of each method, ``all`` those of all, ``none`` none.
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
    """Trials by their keys, for which every task is read once."""
    ordered = list(trials)
    digests: dict[tuple[Any, ...], str] = {}
    for trial in ordered:
        if (rows := rows_of(trial)) not in digests:
            digests[rows] = loaded(rows, data).task.digest
    of_backbone = identity(backbone)
    return {trial.key(of_backbone if trial.has_backbone else "", digests[rows_of(trial)]): trial for trial in ordered}


def missing(trials: Mapping[str, Trial], ledger: Ledger) -> dict[str, Trial]:
    """Those without an entry."""
    return {key: trial for key, trial in trials.items() if key not in ledger}


def parted(edition: Edition, trials: Mapping[str, Trial]) -> Iterator[dict[str, Trial]]:
    """Trials by the parts of the edition, in their order; what the edition does not have comes last."""
    left = {identity_of(trial): key for key, trial in trials.items()}
    for part in in_parts(edition).values() if edition.parts else ():
        keys = [left.pop(name) for name in map(identity_of, part) if name in left]
        if keys:
            yield {key: trials[key] for key in keys}
    if left:
        yield {key: trials[key] for key in left.values()}


def packs(trials: Mapping[str, Trial], most: int) -> Iterator[dict[str, Trial]]:
    """Trials that train together: of one task, equally many epochs and methods with deltas, at most so many.

    A private copy of the backbone trains alone. Words are counted together.
    """
    groups: dict[tuple[Any, ...], dict[str, Trial]] = defaultdict(dict)
    for key, trial in trials.items():
        method = trial.method["name"]
        kind: tuple[Any, ...] = (key,) if method in ALONE else ("words",) if not trial.has_backbone else ()
        groups[trial.task, trial.recipe.get("epochs"), kind][key] = trial
    for group in groups.values():
        keys = list(group)
        for start in range(0, len(keys), most):
            yield {key: group[key] for key in keys[start : start + most]}


def run(
    edition: Edition, trials: Mapping[str, Trial], place: Place, launch: Launch, cut: Sequence[str] = ()
) -> Iterator[Message]:
    """Run those of the trials that have no entry yet and that no other process runs.

    Args:
        edition: whole, as it was asked for; ``cut`` says what a budget left out of it.
        trials: of it, by their keys.

    Yields:
        The messages of ``work``, and ``{"what": "started", "keys"}`` and ``{"what": "elsewhere", "keys"}`` for what
        begins here and what another process has.
    """
    ledger = Ledger(place.results, edition.name)
    claims = Claims(ledger.folder / "claims")
    describe(edition, ledger, cut)
    pending: list[Message] = []

    def claimed() -> Iterator[Mapping[str, Any]]:
        parts = parted(edition, missing(trials, ledger))
        for pack in (pack for part in parts for pack in packs(part, place.jobs)):
            ours = {key: trial for key, trial in pack.items() if key not in ledger and claims.take(key)}
            for key in [key for key in ours if key in ledger]:  # written between the look and the claim
                claims.release(key)
                del ours[key]
            others = [key for key in pack if key not in ours and key not in ledger]
            if others:
                pending.append({"what": "elsewhere", "keys": others})
            if ours:
                pending.append({"what": "started", "keys": list(ours)})
                yield {
                    "trials": {key: trial.to_json() for key, trial in ours.items()},
                    "folder": str(ledger.folder),
                    "adapters": place.adapters != "none",
                    **{name: getattr(place, name) for name in ("data", "backbone", "device", "dtype", "share")},
                }

    try:
        for message in launch(claimed(), work):
            yield from _drained(pending)
            if message["what"] == "entry":
                entry = Entry.from_json(message["entry"])
                ledger.write(entry)
                (ledger.folder / UNDER_WAY / f"{entry.key}.ckpt").unlink(missing_ok=True)
                if place.adapters == "best":
                    keep_best(ledger, entry)
                claims.release(entry.key)
            yield message
        yield from _drained(pending)
    finally:
        claims.release_all()


def describe(edition: Edition, ledger: Ledger, cut: Sequence[str]) -> None:
    """Keep what the edition is, its caps and what was cut last, beside its entries: for the report."""
    values = {"edition": edition.to_json(), "caps": edition.caps(), "cut": list(cut)}
    write_text(about(ledger), json.dumps(values, indent=1) + "\n")


def about(ledger: Ledger) -> Path:
    """The file that says what the edition is."""
    return ledger.folder / "about" / "edition.json"


def keep_best(ledger: Ledger, entry: Entry) -> None:
    """Of a task and method, keep the adapter with the best validation score; the other is removed."""
    own = adapter_path(ledger.folder, entry.key)
    if not own.exists():
        return
    for path in own.parent.glob("*.safetensors"):
        if path == own or path.stem not in ledger:
            continue
        other = ledger.read(path.stem)
        is_same = (other.trial.task, other.trial.method["name"]) == (entry.trial.task, entry.trial.method["name"])
        if is_same and other.backbone == entry.backbone:
            worse = path if _score(other) < _score(entry) else own
            worse.unlink(missing_ok=True)
            if worse == own:
                return


def best_adapters(ledger: Ledger, tasks: Sequence[str], method: str = "houlsby") -> dict[str, Entry]:
    """Of each task the entry with the best validation score among those whose adapters are kept."""
    found: dict[str, Entry] = {}
    for path in sorted((ledger.folder / ADAPTERS).glob("*.safetensors")):
        if path.stem not in ledger:
            continue
        entry = ledger.read(path.stem)
        task = entry.trial.task
        if task in tasks and entry.trial.method["name"] == method and _score(entry) > _score(found.get(task)):
            found[task] = entry
    return found


def _score(entry: Entry | None) -> float:
    return float("-inf") if entry is None or entry.validation is None else entry.validation.score


def _drained(pending: list[Message]) -> Iterator[Message]:
    while pending:
        yield pending.pop(0)
