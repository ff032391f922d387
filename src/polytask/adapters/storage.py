"""The files of a store: in a local folder, or at any address that fsspec supports.

Guarantees of a local folder, with any number of writers and a ``kill -9`` at any moment:

* A version appears whole or not at all, and no version is overwritten. Its bytes are written and synced under a name
  that nobody reads. Then ``link`` gives them the version's name; it fails if that name is taken.
* Writers of one task take turns by a lock, which the system releases when its process ends. Readers never wait.
* Nothing is read or written through a symbolic link inside the folder.

The guarantees of fsspec are weaker. There are no locks: if two writers change aliases at once, the last one wins. A
version is created with ``mode="create"``, which S3 (s3fs from 2024.10) and memory refuse if the name is taken. With a
file system that ignores this mode, two writers of one task may overwrite each other: let one process write at a time.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock

from polytask.adapters.adapter import MAX_FILE_BYTES, Adapter, open_regular
from polytask.errors import AdapterError, StoreError
from polytask.files import sync, write_text

LOCK = ".lock"
POLL_S = 0.01
"""How often a writer that waits for the lock of a task tries again."""
PART = ".part"

Publish = Callable[[str], None]
Opened = contextlib.AbstractContextManager[tuple[BinaryIO, int]]


class Storage(ABC):
    """The files of a store, each in its task's folder. Callers have checked the names of tasks and files."""

    @abstractmethod
    def path(self, *names: str) -> str:
        """The path or address of a file or folder, for messages."""

    @abstractmethod
    def names(self, *task: str) -> list[str]:
        """The names in the store, or in a task's folder; none if the folder does not exist.

        Raises:
            StoreError: it is not a folder, or it is a link.
        """

    @abstractmethod
    def open(self, task: str, name: str) -> Opened:
        """Open a file for reading; gives the stream and the size in bytes.

        Raises:
            FileNotFoundError: there is no such file.
            StoreError: it is a link.
            AdapterError: it is not a regular file, or too large.
        """

    @abstractmethod
    def stage(self, task: str, adapter: Adapter) -> contextlib.AbstractContextManager[Publish]:
        """Write an adapter under a name that nobody reads; gives a function that publishes it under a final name.

        The function raises FileExistsError if the name is taken.
        """

    @abstractmethod
    def lock(self, task: str) -> contextlib.AbstractContextManager[None]:
        """Keep other writers of a task out within the block, if the storage has locks. The folder must exist."""

    @abstractmethod
    def write(self, task: str, name: str, text: str) -> None:
        """Write a small file, whole or not at all."""

    @abstractmethod
    def delete(self, task: str, name: str) -> None:
        """Delete a file, if it exists."""

    @abstractmethod
    def delete_leftovers(self, task: str, older_than_s: float) -> list[str]:
        """Delete files that interrupted writers left, if they are older than this; gives the deleted paths."""


class LocalFiles(Storage):
    """A folder on this machine, or one mounted on it."""

    def __init__(self, root: Path) -> None:
        if root.exists() and not root.is_dir():
            raise StoreError(f"{root} is a file; a store is a folder")
        self.root = root

    def path(self, *names: str) -> str:
        return str(self.root.joinpath(*names))

    def names(self, *task: str) -> list[str]:
        folder = self._folder(*task)
        try:
            return sorted(os.listdir(folder))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(f"{folder} cannot be read: {error.strerror}") from error

    @contextlib.contextmanager
    def open(self, task: str, name: str) -> Iterator[tuple[BinaryIO, int]]:
        with open_regular(self._file(task, name)) as (stream, size_bytes):
            yield stream, size_bytes

    @contextlib.contextmanager
    def stage(self, task: str, adapter: Adapter) -> Iterator[Publish]:
        folder = self._folder(task)
        folder.mkdir(parents=True, exist_ok=True)
        sync(self.root)
        part = folder / f".{uuid.uuid4().hex}{PART}"

        def publish(name: str) -> None:
            _publish_by_link(part, folder / name)
            sync(folder)

        try:
            adapter.save(part)
            yield publish
        finally:
            part.unlink(missing_ok=True)

    @contextlib.contextmanager
    def lock(self, task: str) -> Iterator[None]:
        with FileLock(self._file(task, LOCK), poll_interval=POLL_S, fallback_to_soft=False):
            yield

    def write(self, task: str, name: str, text: str) -> None:
        write_text(self._file(task, name), text)

    def delete(self, task: str, name: str) -> None:
        self._folder(task).joinpath(name).unlink(missing_ok=True)
        sync(self._folder(task))

    def delete_leftovers(self, task: str, older_than_s: float) -> list[str]:
        deleted = []
        for name in self.names(task):
            part = self._folder(task) / name
            if name.startswith(".") and name.endswith(PART) and not part.is_symlink() and part.is_file():
                with contextlib.suppress(FileNotFoundError):  # its writer was still running, and has finished
                    if time.time() - part.stat().st_mtime > older_than_s:
                        part.unlink()
                        deleted.append(str(part))
        return deleted

    def _folder(self, *task: str) -> Path:
        folder = self.root.joinpath(*task)
        if task and folder.is_symlink():
            raise StoreError(f"{folder} is a link; a store does not read or write through links")
        if folder.exists() and not folder.is_dir():
            raise StoreError(f"{folder} is a file, where a task's folder should be")
        return folder

    def _file(self, task: str, name: str) -> Path:
        path = self._folder(task) / name
        if path.is_symlink():
            raise StoreError(f"{path} is a link; a store does not read or write through links")
        return path


class RemoteFiles(Storage):
    """A folder at an fsspec address: ``s3://bucket/adapters``, ``memory://adapters``."""

    def __init__(self, files: Any, root: str, address: str) -> None:
        if files.isfile(root):
            raise StoreError(f"{address} is a file; a store is a folder")
        self.files, self.root, self.address = files, root.rstrip("/"), address.rstrip("/")

    def path(self, *names: str) -> str:
        return "/".join((self.address, *names))

    def names(self, *task: str) -> list[str]:
        folder = self._remote_path(*task)
        self.files.invalidate_cache(folder)
        try:
            listed = self.files.ls(folder, detail=False)
        except FileNotFoundError:
            return []
        return sorted({path.rstrip("/").rpartition("/")[2] for path in listed if path.strip("/") != folder.strip("/")})

    @contextlib.contextmanager
    def open(self, task: str, name: str) -> Iterator[tuple[BinaryIO, int]]:
        path = self._remote_path(task, name)
        size_bytes = int(self.files.size(path))
        if size_bytes > MAX_FILE_BYTES:
            raise AdapterError(f"too large: {size_bytes:,} bytes, and at most {MAX_FILE_BYTES:,} are read")
        with self.files.open(path, "rb") as stream:
            yield stream, size_bytes

    @contextlib.contextmanager
    def stage(self, task: str, adapter: Adapter) -> Iterator[Publish]:
        content = adapter.to_bytes()
        yield lambda name: self.files.pipe_file(self._remote_path(task, name), content, mode="create")

    @contextlib.contextmanager
    def lock(self, task: str) -> Iterator[None]:
        yield

    def write(self, task: str, name: str, text: str) -> None:
        self.files.pipe_file(self._remote_path(task, name), text.encode())

    def delete(self, task: str, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.files.rm_file(self._remote_path(task, name))

    def delete_leftovers(self, task: str, older_than_s: float) -> list[str]:
        return []

    def _remote_path(self, *names: str) -> str:
        return "/".join((self.root, *names))


def storage_at(address: str | os.PathLike[str]) -> Storage:
    """The storage at a local folder, or at an fsspec address (one with ``://``).

    Raises:
        StoreError: the address is not known to fsspec, or names a file.
    """
    if not isinstance(address, str | os.PathLike):
        raise StoreError(f"a store is given as a folder, not as {type(address).__name__} {address!r}")
    address = os.fspath(address)
    if "://" not in address:
        return LocalFiles(Path(address))
    from fsspec.core import url_to_fs

    try:
        files, root = url_to_fs(address)
    except (ValueError, ImportError) as error:
        raise StoreError(f"a store cannot be opened at {address!r}: {error}") from error
    local = "file" in ((files.protocol,) if isinstance(files.protocol, str) else files.protocol)
    return LocalFiles(Path(root)) if local else RemoteFiles(files, root, address)


def _publish_by_link(part: Path, target: Path) -> None:
    """Give ``part`` the name ``target`` too; raises FileExistsError if that is taken."""
    try:
        os.link(part, target)
    except OSError as error:
        # This file system has no hard links; the lock alone keeps other writers away.
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
            raise
        if target.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        part.rename(target)
