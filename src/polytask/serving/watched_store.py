"""Detects changes in a store with a few ``stat`` calls for each task."""

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
"""A second change within this time may leave the modification time unchanged."""


class WatchedStore(Store):
    """A store that tells whether a task's folder or file has changed.

    ``digests`` holds the digest of each known version: a file that was overwritten since then is refused.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        super().__init__(folder)
        self.digests: dict[str, str] = {}

    def get(self, name: str) -> Adapter:
        """As ``Store.get``.

        Raises:
            AdapterError: also if the file was overwritten since its version was first seen.
        """
        adapter = super().get(name)
        if self.digests.get(name, adapter.header.digest) != adapter.header.digest:
            raise AdapterError(f"{name} was overwritten in place; add a new version instead")
        return adapter

    def exists(self) -> bool:
        """Whether the store's folder exists; always for a remote store."""
        return not isinstance(self._files, LocalFiles) or self._files.root.exists()

    def folders(self) -> list[str]:
        """All tasks, including those without versions."""
        return self._folders()

    def has_folder(self, task: str) -> bool:
        """Whether a task's folder exists, even if it cannot be read; False for a remote store."""
        if not isinstance(self._files, LocalFiles):
            return False
        path = self._files.path(task)
        return os.path.isdir(path) and not os.path.islink(path)

    def numbers(self, task: str) -> list[int]:
        """The version numbers of a task, ascending; empty if there is no such task."""
        return self._numbers(task)

    def aliases(self, task: str) -> Mapping[str, int]:
        """The version that each alias of a task points to."""
        return self._aliases(task)

    def path(self, task: str, version: int) -> str:
        """The path of a version's file, for the log."""
        return self._files.path(task, f"{version}.safetensors")

    def stamp(self, task: str) -> Stamp | None:
        """A value that changes with a task's folder or aliases; None if unknown or changed too recently."""
        if not isinstance(self._files, LocalFiles):
            return None
        found = [_stat(self._files.path(task)), _stat(self._files.path(task, ALIASES))]
        is_recent = any(stat and abs(time.time_ns() - stat[0]) < SETTLED_NS for stat in found)
        return None if is_recent else sum(found, ())

    def file_stamp(self, task: str, version: int) -> Stamp:
        """A value that changes with a version's file."""
        path = self._files.path(task, f"{version}.safetensors")
        if isinstance(self._files, RemoteFiles):
            return tuple(map(str, self._files.files.info(path).items()))
        return _stat(path)


def _stat(path: str) -> Stamp:
    """Modification time, size, inode and change time (also of its permissions) of a file; empty if there is none."""
    try:
        found = os.stat(path, follow_symlinks=False)
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_ctime_ns
