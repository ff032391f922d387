"""Resolves names of tasks to versions, as of the last scan of the store.

A new version is served only after its whole file was read, verified and found to fit the backbone. Until then (or
forever, if it fails) the task's name keeps resolving to the version before it. A damaged, hostile or incompatible file
that appears in the store of a running server therefore changes no answer: it is refused with a reason, and tried again
when the file changes.
"""

from __future__ import annotations

import errno
import logging
import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from polytask.adapters.store import BEST, LATEST, Entry
from polytask.errors import AdapterError, IncompatibleAdapter, NoSuchAdapter, PolytaskError, StoreError, nearest
from polytask.serving.faults import Fault, without_paths
from polytask.serving.watched_store import Stamp, WatchedStore

log = logging.getLogger(__name__)

Shares = Mapping[int, float]
MAX_NAME_SHOWN = 80
NO_STAMP: Stamp = ()
"""The stamp of no file: a refusal with it is tried again at every scan."""
_TEMPORARY = frozenset(
    (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EINTR, errno.EIO, errno.ESTALE, errno.ETIMEDOUT)
)


def is_temporary(error: BaseException) -> bool:
    """Whether reading failed for want of memory or file descriptors, or by an I/O error, and may succeed later."""
    cause = error.__cause__
    return isinstance(cause, MemoryError) or (isinstance(cause, OSError) and cause.errno in _TEMPORARY)


@dataclass(frozen=True)
class Refusal:
    """Why a version is not served, and the stamp of its file at that time."""

    reason: str
    is_incompatible: bool
    stamp: Stamp

    def fault(self, name: str) -> Fault:
        """The error for a client that asks for this version."""
        code = "wrong_backbone" if self.is_incompatible else "adapter_refused"
        return Fault(code, f"{name} is refused: {self.reason}", param="model")


@dataclass(frozen=True)
class Versions:
    """The versions of a task: those with a valid header, those read and verified whole, and those refused."""

    entries: Mapping[int, Entry] = field(default_factory=dict)
    verified: frozenset[int] = frozenset()
    refused: Mapping[int, Refusal] = field(default_factory=dict)
    aliases: Mapping[str, int] = field(default_factory=dict)
    stamp: Stamp | None = None


class Catalog:
    """The adapters of a store by name. Any thread may call any method.

    Args:
        admit: reads a whole version; raises PolytaskError if it cannot be served.
        on_removed: called with the name of a version that is no longer in the store.
        on_refused: called with the name of a version that was refused.
    """

    def __init__(
        self,
        store: WatchedStore,
        admit: Callable[[Entry], None],
        on_removed: Callable[[str], None] | None = None,
        on_refused: Callable[[str], None] | None = None,
    ) -> None:
        self.store, self.admit = store, admit
        self.on_removed = on_removed or (lambda name: None)
        self.on_refused = on_refused or (lambda name: None)
        self._tasks: dict[str, Versions] = {}
        self._hidden: frozenset[str] = frozenset()
        self._shares: dict[str, Shares] = {}
        self._unreadable: frozenset[str] = frozenset()
        self._scanning = threading.Lock()

    def __contains__(self, task: str) -> bool:
        return task in self._tasks

    # Scanning the store

    def refresh(self) -> None:
        """Scan the store for changes; one thread at a time.

        Raises:
            StoreError: its folder cannot be read or is gone, as when a disk is unmounted; nothing changes then.
        """
        with self._scanning:
            folders = self.store.folders()
            if self._tasks and not folders and not self.store.exists():
                raise StoreError(f"{self.store!r} is gone")
            for task in folders:
                before = self._tasks.get(task, Versions())
                stamp = self.store.stamp(task)
                if stamp is None or stamp != before.stamp or self._has_changed_refusals(task, before):
                    self._replace(task, before, self._scan(task, before, stamp))
            missing = self._tasks.keys() - set(folders)
            unreadable = frozenset(filter(self.store.has_folder, missing))
            for task in missing - unreadable:
                self._replace(task, self._tasks[task], None)
            for task in unreadable - self._unreadable:
                log.warning("a folder cannot be read; its task is served as before", extra={"task": task})
            self._unreadable = unreadable

    def _has_changed_refusals(self, task: str, before: Versions) -> bool:
        return any(self.store.file_stamp(task, v) != refusal.stamp for v, refusal in before.refused.items())

    def _replace(self, task: str, before: Versions, after: Versions | None) -> None:
        if after is None:
            self._tasks.pop(task, None)
        else:
            self._tasks[task] = after
        for version in before.entries.keys() - (after.entries.keys() if after else set()):
            self.store.digests.pop(f"{task}@{version}", None)
            self.on_removed(f"{task}@{version}")

    def _scan(self, task: str, before: Versions, stamp: Stamp | None) -> Versions:
        """The versions of a task now. Verifies them from the newest down, until one can be served."""
        try:
            numbers = self.store.numbers(task)
            aliases = self.store.aliases(task)
        except PolytaskError as error:  # a damaged aliases.json must not take the versions away
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
        verified = before.verified & entries.keys()
        while entries and (newest := max(entries)) not in verified:
            entry = entries[newest]
            if self._try(task, newest, lambda _, entry=entry: self.admit(entry), refused):  # type: ignore[misc]
                verified |= {newest}
            else:
                del entries[newest]
                self.store.digests.pop(str(entry), None)
        return Versions(entries, verified, refused, aliases, stamp)

    def _entry(self, task: str, version: int) -> Entry:
        entry = self.store.entry(f"{task}@{version}")
        self.store.digests[str(entry)] = entry.digest
        return entry

    def _try(self, task: str, version: int, step: Callable[[int], None], refused: dict[int, Refusal]) -> bool:
        """Run ``step`` on a version; False, with the version added to ``refused``, if it fails."""
        stamp = self.store.file_stamp(task, version)
        try:
            step(version)
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
        return Refusal(reason, isinstance(error, IncompatibleAdapter), NO_STAMP if is_temporary(error) else stamp)

    def refuse(self, entry: Entry, error: AdapterError) -> None:
        """Stop serving a version that could not be loaded. Its task's name then resolves to the version before."""
        with self._scanning:
            before = self._tasks.get(entry.task, Versions())
            stamp = self.store.file_stamp(entry.task, entry.version)
            refusal = self._refusal(entry.task, entry.version, error, stamp)
            rest = {version: kept for version, kept in before.entries.items() if version != entry.version}
            refused = {**before.refused, entry.version: refusal}
            after = Versions(rest, before.verified - {entry.version}, refused, before.aliases, before.stamp)
            self._replace(entry.task, before, after)

    # Resolving names

    def entries(self) -> list[Entry]:
        """Every version that is served, sorted by task and number."""
        tasks = dict(self._tasks)
        return [
            entry
            for task in sorted(tasks)
            for version, entry in sorted(tasks[task].entries.items())
            if not self._is_hidden(task, version)
        ]

    def refusals(self) -> dict[str, Refusal]:
        """Every refused version by name."""
        tasks = dict(self._tasks)
        return {f"{task}@{v}": refusal for task in sorted(tasks) for v, refusal in sorted(tasks[task].refused.items())}

    def tasks(self) -> list[str]:
        """The tasks that are served, sorted."""
        return sorted({entry.task for entry in self.entries()})

    def aliases(self, task: str) -> Mapping[str, int]:
        """The version that each alias of a task points to."""
        return self._tasks.get(task, Versions()).aliases

    def shares(self, task: str) -> Shares:
        """The share of traffic of each version; empty where none was set."""
        return self._shares.get(task, {})

    def resolve(self, reference: str) -> Entry:
        """The version that ``task``, ``task@version`` or ``task@alias`` refers to now.

        Raises:
            Fault: there is none, or it is refused.
        """
        task, at, selector = reference.partition("@")
        versions = self._tasks.get(task)
        if versions is None or task in self._hidden:
            raise self._unknown(task)
        served = {v: entry for v, entry in versions.entries.items() if not self._is_hidden(task, v)}
        number = self._default_version(task, served) if not at else self._selected(selector, served, versions.aliases)
        if number is not None and number in served:
            return served[number]
        if not at and versions.refused:
            number = max(versions.refused)
        if number is not None and number in versions.refused:
            raise versions.refused[number].fault(f"{task}@{number}")
        if not served:
            raise self._unknown(task)
        known = ", ".join([*map(str, sorted(served)), BEST, LATEST, *versions.aliases])
        shown = selector[:MAX_NAME_SHOWN]
        raise Fault("not_found", f"{task!r} has no version {shown!r}. Available: {known}", param="model")

    def _default_version(self, task: str, served: Mapping[int, Entry]) -> int | None:
        """The latest version, or one drawn by the shares of traffic."""
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
        shown = task[:MAX_NAME_SHOWN]
        near = nearest(shown, self.tasks())
        suggestion = "" if near is None else f". Did you mean {near!r}?"
        return Fault("not_found", f"no adapter called {shown!r}{suggestion}", param="model")

    def _is_hidden(self, task: str, version: int) -> bool:
        return task in self._hidden or f"{task}@{version}" in self._hidden

    # Management

    def hide(self, name: str) -> None:
        """Stop serving a task, or one version of it."""
        self._hidden |= {name}

    def show(self, name: str) -> None:
        """Serve a task with all its versions again, or one version of it, by number or alias."""
        task, at, selector = name.partition("@")
        if not at:
            self._hidden = frozenset(hidden for hidden in self._hidden if hidden.partition("@")[0] != task)
            return
        versions = self._tasks.get(task, Versions())
        self._hidden -= {task, f"{task}@{self._selected(selector, versions.entries, versions.aliases)}"}

    def set_shares(self, task: str, shares: Shares) -> None:
        """Split a task's traffic between versions; with no shares the latest version gets all of it.

        Raises:
            Fault: a version is not served.
        """
        for version in shares:
            self.resolve(f"{task}@{version}")
        self._shares[task] = dict(shares)
