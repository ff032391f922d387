"""A store as a server watches it: what has changed, at the price of a few ``stat`` calls a task."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from polytask.adapters.adapter import Adapter
from polytask.adapters.storage import LocalFiles, RemoteFiles
from polytask.adapters.store import ALIASES, Store
from polytask.errors import AdapterError

Stamp = tuple[Any, ...]
SETTLED_NS = 2_000_000_000
"""Within this time of a change another one may leave the same time stamp."""


class WatchedStore(Store):
    """A store that tells when a task's folder or a file was last changed.

    ``digests`` says what a version must be: a file that was changed in its place since it was admitted is refused.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        super().__init__(folder)
        self.digests: dict[str, str] = {}

    def get(self, name: str) -> Adapter:
        """As ``Store.get``.

        Raises:
            AdapterError: also where the version is another adapter than was admitted.
        """
        adapter = super().get(name)
        if self.digests.get(name, adapter.header.digest) != adapter.header.digest:
            raise AdapterError(f"{name} was replaced in its place; put a new version instead")
        return adapter

    def folders(self) -> list[str]:
        """The names of tasks, also of those without versions."""
        return self._folders()

    def numbers(self, task: str) -> list[int]:
        """The versions there are, the latest last; none where there is no such task."""
        return self._numbers(task)

    def aliases(self, task: str) -> Mapping[str, int]:
        """The versions that a task's aliases point to."""
        return self._aliases(task)

    def path(self, task: str, version: int) -> str:
        """Where a version is, for the log."""
        return self._files.path(task, f"{version}.safetensors")

    def stamp(self, task: str) -> Stamp | None:
        """What changes with a task's folder or its aliases; None where that cannot be known or is too fresh."""
        if not isinstance(self._files, LocalFiles):
            return None
        found = [_stat(self._files.path(task)), _stat(self._files.path(task, ALIASES))]
        is_fresh = any(of and abs(time.time_ns() - of[0]) < SETTLED_NS for of in found)
        return None if is_fresh else sum(found, ())

    def file_stamp(self, task: str, version: int) -> Stamp:
        """What changes with a version's file."""
        path = self._files.path(task, f"{version}.safetensors")
        if isinstance(self._files, RemoteFiles):
            return tuple(map(str, self._files.files.info(path).items()))
        return _stat(path)


def _stat(path: str) -> Stamp:
    """When a file was changed, its size and its number; empty where it is not there."""
    try:
        found = os.stat(path, follow_symlinks=False)
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino
