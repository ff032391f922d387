"""``Store``: a folder of adapters. Each ``put`` makes a new version; no version is ever overwritten.

    adapters/
      spam/
        1.safetensors  3.safetensors
        2.removed       reserves the number, so that spam@2 never names another adapter
        aliases.json    {"prod": 3}
        .lock           locked by a writer while it chooses a number; never deleted
    .training/          checkpoints of unfinished runs; not part of the store

An adapter is named ``spam`` (the latest version), ``spam@3``, ``spam@best`` (the highest score among the versions with
the latest one's metric) or ``spam@prod`` (an alias); ``get`` and ``entry`` also take ``hub:OWNER/NAME[@REVISION]``, an
adapter on the Hugging Face hub. ``storage.py`` lists the guarantees when several processes write, or one is killed.

There is no index that could get out of date: the files are read each time. ``list`` skips files that do not belong, and
``verify`` reports them.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping

from polytask.adapters.adapter import Adapter, Identity, errors_naming, read_header
from polytask.adapters.canonical_json import canonical
from polytask.adapters.entry import Entry as Entry
from polytask.adapters.entry import Problem as Problem
from polytask.adapters.header import Header, plain_name
from polytask.adapters.hub import Pushed, hub_entry, is_on_hub, upload
from polytask.adapters.references import BEST as BEST
from polytask.adapters.references import LATEST as LATEST
from polytask.adapters.references import check_alias, parsed_aliases, split_reference
from polytask.adapters.storage import LOCK, PART, Publish, storage_at
from polytask.data.notebook import html_table
from polytask.errors import AdapterError, NoSuchAdapter, PolytaskError, StoreError

ALIASES, PROMOTIONS = "aliases.json", "promotions.json"
TRAINING = ".training"
MAX_ALIASES_BYTES = 1 << 20

_NUMBER = r"[1-9][0-9]{0,8}"
_VERSION = re.compile(rf"({_NUMBER})\.safetensors")
_REMOVED = re.compile(rf"({_NUMBER})\.removed")


Entries = list[Entry]
Problems = list[Problem]
Numbers = list[int]
Names = list[str]


class Store:
    """A folder of adapters, versioned and checked.

    Args:
        folder: a folder, which the first ``put`` makes; or an fsspec address, such as ``s3://bucket/adapters``.

    Raises:
        StoreError: ``folder`` is a file, or fsspec does not know the address.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._files = storage_at(folder)
        self._from_hub: dict[str, Entry] = {}

    def __repr__(self) -> str:
        return f"Store({self._files.path()!r})"

    def _repr_html_(self) -> str:
        """The latest version of each task, for notebooks."""
        entries = [self.entry(task) for task in self.tasks()]
        rows = [
            (e, ", ".join(e.labels) or e.header.head.kind, e.method.name, e.metric, f"{e.score:.3f}") for e in entries
        ]
        return html_table(repr(self), ("adapter", "labels", "method", "metric", "score"), rows)

    def put(self, adapter: Adapter, *, alias: str | None = None) -> Entry:
        """Store ``adapter`` as a new version of its task.

        Args:
            adapter: the adapter.
            alias: a name that will point to the new version, such as ``prod``.

        Raises:
            StoreError: the store cannot be written, or ``alias`` is not a valid name.
            AdapterError: the adapter's tensors were changed since it was made.
        """
        if not isinstance(adapter, Adapter):
            raise StoreError(
                f"{type(adapter).__name__} {adapter!r:.60} is not an adapter. Read a file with Adapter.load"
            )
        task = plain_name(adapter.header.task, error=StoreError)
        if alias is not None:
            check_alias(alias)
        with self._write_errors(), self._files.stage(task, adapter) as publish, self._files.lock(task):
            aliases = self._aliases(task) if alias is not None else {}
            version = self._publish_next(task, publish)
            if alias is not None:
                self._write_aliases(task, {**aliases, alias: version})
            return self._entry(task, version)

    def get(self, name: str) -> Adapter:
        """Read an adapter: ``spam``, ``spam@3``, ``spam@best``, ``spam@prod``, ``hub:OWNER/NAME``.

        Raises:
            NoSuchAdapter: there is no such adapter.
            AdapterError: its file is damaged, or it cannot be downloaded from the hub.
        """
        return Adapter.load(self._on_hub(name).path) if is_on_hub(name) else self._load(*self._resolve(name))

    def entry(self, name: str) -> Entry:
        """What the store knows about an adapter, without reading its tensors.

        Raises:
            NoSuchAdapter, AdapterError: as for ``get``.
        """
        return self._on_hub(name) if is_on_hub(name) else self._entry(*self._resolve(name))

    def push(
        self,
        name: str,
        repository: str,
        *,
        card: str | None = None,
        private: bool = True,
        dry_run: bool = False,
        endpoint: str | None = None,
    ) -> Pushed:
        """Upload an adapter to the hub; arguments, result and errors are those of ``pt.push``."""
        how = {"private": private, "dry_run": dry_run}
        return upload(self.get(name), self.entry(name), repository, card=card, endpoint=endpoint, **how)

    def pull(
        self, repository: str, *, task: str | None = None, alias: str | None = None, endpoint: str | None = None
    ) -> Entry:
        """Download an adapter from the hub and store it; arguments and errors are those of ``pt.pull``."""
        adapter = Adapter.load(hub_entry(repository, endpoint=endpoint).path)
        return self.put(adapter if task is None else adapter.renamed(task), alias=alias)

    def tasks(self) -> Names:
        """The names of the tasks that have a version."""
        return [task for task in self._folders() if self._numbers(task)]

    def versions(self, task: str) -> Numbers:
        """The numbers of a task's versions, the latest last.

        Raises:
            NoSuchAdapter: the task has no versions.
        """
        numbers = self._numbers(plain_name(task, error=StoreError))
        if not numbers:
            raise NoSuchAdapter("adapter", task, self.tasks(), f" in {self._files.path()}")
        return numbers

    def alias(self, name: str, alias: str) -> None:
        """Let ``alias`` point to an adapter: ``store.alias("spam@3", "prod")``.

        Raises:
            StoreError: ``alias`` is not a valid name.
            NoSuchAdapter: there is no such adapter.
        """
        check_alias(alias)
        task, _ = self._resolve(name)
        with self._write_errors(), self._files.lock(task):
            self._write_aliases(task, {**self._aliases(task), alias: self._resolve(name)[1]})

    def unalias(self, name: str) -> None:
        """Remove an alias: ``store.unalias("spam@prod")``. The version stays.

        Raises:
            NoSuchAdapter: there is no such alias.
        """
        task, alias = split_reference(name)
        self.versions(task)
        with self._write_errors(), self._files.lock(task):
            aliases = self._aliases(task)
            if alias not in aliases:
                raise NoSuchAdapter(f"alias of {task!r}", str(alias), aliases)
            self._write_aliases(task, {known: version for known, version in aliases.items() if known != alias})

    def remove(self, name: str) -> None:
        """Remove a version, or all versions of a task if no version is named. Their numbers are not used again.

        Raises:
            NoSuchAdapter: there is no such adapter.
            StoreError: an alias points to the version.
        """
        task, selector = split_reference(name)
        self._resolve(name)
        with self._write_errors(), self._files.lock(task):
            if selector is None:
                self._files.delete(task, ALIASES)
                versions = self.versions(task)
            else:
                versions = [self._resolve(name)[1]]
                pointing = [alias for alias, version in self._aliases(task).items() if version in versions]
                if pointing:
                    raise StoreError(
                        f"{task}@{versions[0]} is what {', '.join(pointing)} points to; let the alias point to another "
                        "version first, or remove it"
                    )
            for version in versions:
                self._files.write(task, f"{version}.removed", "")
                self._files.delete(task, f"{version}.safetensors")

    def verify(self, backbone: Identity | None = None) -> Problems:
        """Check every byte of the store for damage, links, foreign files and aliases without a version.

        Args:
            backbone: also report adapters that were not trained on it.

        Returns:
            The problems found; empty if there are none.
        """
        return list(self._problems(backbone))

    def gc(self, older_than_s: float = 3600.0) -> Names:
        """Remove the unfinished files of interrupted writers, and nothing else.

        Args:
            older_than_s: the least age in seconds. Younger files may belong to a running writer.

        Returns:
            The removed paths.
        """
        with self._write_errors():
            return [
                path
                for name in (TRAINING, *self._folders())
                for path in self._files.delete_leftovers(name, older_than_s)
            ]

    def list(self) -> Entries:
        """Every version of every task; those whose header cannot be read are skipped."""
        found = []
        for task in self._folders():
            for version in self._numbers(task):
                with contextlib.suppress(AdapterError, StoreError):
                    found.append(self._entry(task, version))
        return found

    def _folders(self) -> Names:
        """The folders that may belong to tasks."""
        found = []
        for name in self._files.names():
            with contextlib.suppress(StoreError):
                self._files.names(plain_name(name, error=StoreError))
                found.append(name)
        return found

    def _numbers(self, task: str) -> Numbers:
        return _numbers_in(_VERSION, self._files.names(task))

    def _publish_next(self, task: str, publish: Publish) -> int:
        """Publish a staged adapter under the first number that was never used."""
        while True:
            names = self._files.names(task)
            version = 1 + max(_numbers_in(_VERSION, names) + _numbers_in(_REMOVED, names), default=0)
            with contextlib.suppress(FileExistsError):  # another writer, without the lock, took the number
                publish(f"{version}.safetensors")
                return version

    def _resolve(self, name: str) -> tuple[str, int]:
        """Task and version of ``spam``, ``spam@3``, ``spam@best`` or ``spam@prod``."""
        task, selector = split_reference(name)
        versions = self.versions(task)
        if selector is None or selector == LATEST:
            return task, versions[-1]
        if selector == BEST:
            return task, self._best(task, versions)
        aliases = {} if selector.isdigit() else self._aliases(task)
        version = aliases.get(selector, int(selector) if re.fullmatch(_NUMBER, selector) else None)
        if version not in versions:
            raise NoSuchAdapter(f"version of {task!r}", selector, [*map(str, versions), BEST, LATEST, *aliases])
        return task, version

    def _on_hub(self, reference: str) -> Entry:
        """The entry of an adapter on the hub; looked up once, so that answers do not change when a repository does."""
        if reference not in self._from_hub:
            entry = hub_entry(reference)
            self._from_hub |= {reference: entry, str(entry): entry}
        return self._from_hub[reference]

    def _best(self, task: str, versions: Numbers) -> int:
        entries = [self._entry(task, version) for version in versions]
        comparable = [entry for entry in entries if entry.metric == entries[-1].metric]
        return max(comparable, key=lambda entry: (entry.score, entry.version)).version

    def _entry(self, task: str, version: int) -> Entry:
        name = f"{version}.safetensors"
        with self._read_errors(task, name), self._files.open(task, name) as (stream, size_bytes):
            header = self._check_task(task, read_header(stream, size_bytes))
        aliases: Mapping[str, int] = {}
        with contextlib.suppress(StoreError):
            aliases = self._aliases(task)
        pointing = tuple(alias for alias, number in aliases.items() if number == version)
        return Entry(task, version, self._files.path(task, name), size_bytes, pointing, header)

    def _load(self, task: str, version: int) -> Adapter:
        name = f"{version}.safetensors"
        with self._read_errors(task, name), self._files.open(task, name) as (stream, size_bytes):
            adapter = Adapter.from_bytes(stream.read(size_bytes))
            self._check_task(task, adapter.header)
            return adapter

    def _check_task(self, task: str, header: Header) -> Header:
        if header.task != task:
            raise AdapterError(f"the header names the task {header.task!r}, but the file is in the folder of {task!r}")
        return header

    def _aliases(self, task: str) -> dict[str, int]:
        try:
            with self._files.open(task, ALIASES) as (stream, size_bytes):
                content = stream.read(min(size_bytes, MAX_ALIASES_BYTES))
        except FileNotFoundError:
            return {}
        try:
            return parsed_aliases(content)
        except (PolytaskError, UnicodeDecodeError) as error:
            raise StoreError(
                f"{self._files.path(task, ALIASES)} is damaged: {error}. Repair it, or remove it with its aliases"
            ) from error

    def _write_aliases(self, task: str, aliases: Mapping[str, int]) -> None:
        self._files.write(task, ALIASES, canonical(dict(aliases)).decode() + "\n")

    def _problems(self, backbone: Identity | None) -> Iterator[Problem]:
        for task in self._files.names():
            if task == TRAINING:
                continue
            try:
                names = self._files.names(plain_name(task, error=StoreError))
            except StoreError as error:
                yield Problem(self._files.path(ascii(task)[1:-1]), str(error))
                continue
            for name in names:
                problem = self._problem(task, name, backbone)
                if problem:
                    yield Problem(self._files.path(task, ascii(name)[1:-1]), problem)

    def _problem(self, task: str, name: str, backbone: Identity | None) -> str | None:
        """What is wrong with a file in a task's folder; None if nothing is."""
        version = _VERSION.fullmatch(name)
        try:
            if version:
                adapter = self._load(task, int(version[1]))
                if backbone is not None:
                    adapter.fits(backbone)
            elif name == ALIASES:
                lost = [alias for alias, to in self._aliases(task).items() if to not in self._numbers(task)]
                return f"there is no version that {', '.join(lost)} points to" if lost else None
            elif name not in (LOCK, PROMOTIONS) and not _REMOVED.fullmatch(name) and not name.endswith(PART):
                return "not a file of a store"
        except PolytaskError as error:
            return str(error).removeprefix(self._files.path(task, name) + ": ")
        return None

    @contextlib.contextmanager
    def _read_errors(self, task: str, name: str) -> Iterator[None]:
        with errors_naming(self._files.path(task, name)):
            try:
                yield
            except FileNotFoundError as error:
                there = map(str, self._numbers(task))
                raise NoSuchAdapter(f"version of {task!r}", name.partition(".")[0], there) from error

    @contextlib.contextmanager
    def _write_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(f"{self._files.path()} cannot be written: {error.strerror or error}") from error


def _numbers_in(pattern: re.Pattern[str], names: Names) -> Numbers:
    return sorted(int(match[1]) for match in map(pattern.fullmatch, names) if match)
