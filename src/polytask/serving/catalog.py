"""Which version a name means, as of the last look at the store.

A version is admitted once it was read to its last byte and fits the backbone; until then, and for ever if it does not,
the name of its task means the version before. So a damaged, hostile or foreign file that appears in the store of a
running server changes no answer: it is refused, with a reason, and tried again when the file changes.
"""

from __future__ import annotations

import logging
import random
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from polytask.adapters.store import BEST, LATEST, Entry
from polytask.errors import AdapterError, IncompatibleAdapter, NoSuchAdapter, PolytaskError, nearest
from polytask.serving.faults import Fault
from polytask.serving.watched import Stamp, WatchedStore

log = logging.getLogger(__name__)

Shares = Mapping[int, float]


_PATH = re.compile(r"(?:[A-Za-z]:)?(?:[/\\\\][^/\\\\'\s]+)+[/\\\\]([^/\\\\'\s]+)")


def without_paths(message: str) -> str:
    """The message with the last part of each path only: clients are not told where files are."""
    return _PATH.sub(r"\1", message)


@dataclass(frozen=True)
class Refusal:
    """Why a version is not served, and its file's stamp when that was found."""

    reason: str
    is_foreign: bool
    stamp: Stamp

    def fault(self, name: str) -> Fault:
        """What a client is told who asks for it."""
        code = "wrong_backbone" if self.is_foreign else "adapter_refused"
        return Fault(code, f"{name} is refused: {self.reason}", param="model")


@dataclass(frozen=True)
class Versions:
    """The versions of a task: those that may be served, those that were read whole, those that are refused."""

    entries: Mapping[int, Entry] = field(default_factory=dict)
    read: frozenset[int] = frozenset()
    refused: Mapping[int, Refusal] = field(default_factory=dict)
    aliases: Mapping[str, int] = field(default_factory=dict)
    stamp: Stamp | None = None


class Catalog:
    """The adapters of a store by name.

    Args:
        admit: reads a version whole, and raises PolytaskError if it cannot be served.
        on_gone: told of a version that is no longer in the store.
        on_refused: told of a version that is refused.
    """

    def __init__(
        self,
        store: WatchedStore,
        admit: Callable[[Entry], None],
        on_gone: Callable[[str], None] | None = None,
        on_refused: Callable[[str], None] | None = None,
    ) -> None:
        self.store, self.admit = store, admit
        self.on_gone = on_gone or (lambda name: None)
        self.on_refused = on_refused or (lambda name: None)
        self._tasks: dict[str, Versions] = {}
        self._hidden: frozenset[str] = frozenset()
        self._shares: dict[str, Shares] = {}
        self._looking = threading.Lock()

    def __contains__(self, task: str) -> bool:
        return task in self._tasks

    # What the store has

    def refresh(self) -> None:
        """Look at the store; one thread at a time."""
        with self._looking:
            folders = self.store.folders()
            for task in folders:
                before = self._tasks.get(task, Versions())
                stamp = self.store.stamp(task)
                if stamp is None or stamp != before.stamp or self._has_changed_refusals(task, before):
                    self._replace(task, before, self._looked_at(task, before, stamp))
            for task in self._tasks.keys() - set(folders):
                self._replace(task, self._tasks[task], None)

    def _has_changed_refusals(self, task: str, before: Versions) -> bool:
        return any(self.store.file_stamp(task, v) != of.stamp for v, of in before.refused.items())

    def _replace(self, task: str, before: Versions, after: Versions | None) -> None:
        if after is None:
            self._tasks.pop(task, None)
        else:
            self._tasks[task] = after
        for version in before.entries.keys() - (after.entries.keys() if after else set()):
            self.store.digests.pop(f"{task}@{version}", None)
            self.on_gone(f"{task}@{version}")

    def _looked_at(self, task: str, before: Versions, stamp: Stamp | None) -> Versions:
        try:
            numbers = self.store.numbers(task)
            aliases = self.store.aliases(task)
        except PolytaskError as error:  # a damaged aliases.json: the versions go on
            log.warning("store: %s", error)
            numbers, aliases = self.store.numbers(task), before.aliases
        entries = {version: entry for version, entry in before.entries.items() if version in numbers}
        refused = {
            version: refusal
            for version, refusal in before.refused.items()
            if version in numbers and self.store.file_stamp(task, version) == refusal.stamp
        }
        for version in numbers:
            if version not in entries and version not in refused:
                self._try(task, version, lambda v: entries.__setitem__(v, self._entry(task, v)), refused)
        read = before.read & entries.keys()
        while entries and (newest := max(entries)) not in read:
            entry = entries[newest]
            if self._try(task, newest, lambda _, entry=entry: self.admit(entry), refused):  # type: ignore[misc]
                read |= {newest}
            else:
                del entries[newest]
                self.store.digests.pop(str(entry), None)
        return Versions(entries, read, refused, aliases, stamp)

    def _entry(self, task: str, version: int) -> Entry:
        entry = self.store.entry(f"{task}@{version}")
        self.store.digests[str(entry)] = entry.digest
        return entry

    def _try(self, task: str, version: int, work: Callable[[int], None], refused: dict[int, Refusal]) -> bool:
        """Do ``work`` on a version; whether it could be done. If not, it is refused."""
        stamp = self.store.file_stamp(task, version)
        try:
            work(version)
        except NoSuchAdapter:
            return False  # removed while it was read
        except PolytaskError as error:
            refused[version] = self._refusal(task, version, error, stamp)
            return False
        return True

    def _refusal(self, task: str, version: int, error: Exception, stamp: Stamp) -> Refusal:
        reason = without_paths(str(error).removeprefix(f"{self.store.path(task, version)}: "))
        log.warning("adapter refused", extra={"adapter": f"{task}@{version}", "reason": reason})
        self.on_refused(f"{task}@{version}")
        return Refusal(reason, isinstance(error, IncompatibleAdapter), stamp)

    def refuse(self, entry: Entry, error: AdapterError) -> None:
        """Serve this version no longer: it could not be loaded. Its task's name means the version before."""
        with self._looking:
            before = self._tasks.get(entry.task, Versions())
            stamp = self.store.file_stamp(entry.task, entry.version)
            refusal = self._refusal(entry.task, entry.version, error, stamp)
            rest = {version: kept for version, kept in before.entries.items() if version != entry.version}
            refused = {**before.refused, entry.version: refusal}
            after = Versions(rest, before.read - {entry.version}, refused, before.aliases, before.stamp)
            self._replace(entry.task, before, after)

    # What a name means

    def entries(self) -> list[Entry]:
        """Every version that is served, by task and number."""
        tasks = dict(self._tasks)
        return [
            entry
            for task in sorted(tasks)
            for version, entry in sorted(tasks[task].entries.items())
            if not self._is_hidden(task, version)
        ]

    def refusals(self) -> dict[str, Refusal]:
        """What is refused, by name."""
        tasks = dict(self._tasks)
        return {f"{task}@{v}": why for task in sorted(tasks) for v, why in sorted(tasks[task].refused.items())}

    def tasks(self) -> list[str]:
        """The tasks that are served."""
        return sorted({entry.task for entry in self.entries()})

    def aliases(self, task: str) -> Mapping[str, int]:
        """The versions that a task's aliases point to."""
        return self._tasks.get(task, Versions()).aliases

    def shares(self, task: str) -> Shares:
        """The share of traffic of each version, where that was set."""
        return self._shares.get(task, {})

    def resolve(self, reference: str) -> Entry:
        """The version that ``task``, ``task@version`` or ``task@alias`` means now.

        Raises:
            Fault: there is none, or it is refused.
        """
        task, at, selector = reference.partition("@")
        versions = self._tasks.get(task)
        if versions is None or task in self._hidden:
            raise self._unknown(task)
        served = {v: entry for v, entry in versions.entries.items() if not self._is_hidden(task, v)}
        number = self._chosen(task, served) if not at else self._selected(selector, served, versions.aliases)
        if number is not None and number in served:
            return served[number]
        if not at and versions.refused:
            number = max(versions.refused)
        if number is not None and number in versions.refused:
            raise versions.refused[number].fault(f"{task}@{number}")
        if not served:
            raise self._unknown(task)
        there = ", ".join([*map(str, sorted(served)), BEST, LATEST, *versions.aliases])
        raise Fault("not_found", f"no version of {task!r} called {selector[:80]!r}. There are: {there}", param="model")

    def _chosen(self, task: str, served: Mapping[int, Entry]) -> int | None:
        """The latest version, or one drawn by its share of the traffic."""
        shares = {version: share for version, share in self.shares(task).items() if version in served}
        if shares and sum(shares.values()):
            return random.choices(list(shares), list(shares.values()))[0]
        return max(served, default=None)

    def _selected(self, selector: str, served: Mapping[int, Entry], aliases: Mapping[str, int]) -> int | None:
        if selector == LATEST:
            return max(served, default=None)
        if selector == BEST and served:
            metric = served[max(served)].metric
            return max((e.score, v) for v, e in served.items() if e.metric == metric)[1]
        is_number = selector.isascii() and selector.isdigit() and len(selector) < 10 and selector[0] != "0"
        return aliases.get(selector, int(selector) if is_number else None)

    def _unknown(self, task: str) -> Fault:
        known = self.tasks()
        near = nearest(task[:80], known)
        guess = "" if near is None else f". Did you mean {near!r}?"
        return Fault("not_found", f"no adapter called {task[:80]!r}{guess}", param="model")

    def _is_hidden(self, task: str, version: int) -> bool:
        return task in self._hidden or f"{task}@{version}" in self._hidden

    # Management

    def hide(self, name: str) -> None:
        """Serve a task, or a version of it, no longer."""
        self._hidden |= {name}

    def show(self, name: str) -> None:
        """Serve it again."""
        task = name.partition("@")[0]
        self._hidden -= {name, task}

    def share(self, task: str, shares: Shares) -> None:
        """Send shares of a task's requests to versions of it; none for the latest alone.

        Raises:
            Fault: a version is not served.
        """
        for version in shares:
            self.resolve(f"{task}@{version}")
        self._shares[task] = dict(shares)
