"""Where a store's files are: a local folder, or whatever fsspec reaches. The store itself does not know which.

What a local folder promises, under any number of writers and a ``kill -9`` at any moment:

* A version appears whole or not at all, and none is overwritten. Its bytes are written and synced under a name that
  nobody reads; then ``link`` gives them the version's name, which fails if that name is taken.
* Writers of one task take turns through a lock that the system releases with its process. Readers never wait.
* Nothing is read or written through a symbolic link inside the folder.

What fsspec promises is less, and depends on what is behind it: there are no locks, so of two writers who change
aliases at once the last one wins. A version is created with ``mode="create"``, which S3 (s3fs from 2024.10) and
memory refuse if the name is taken; a file system that ignores that mode may let two writers who put into one task
at the same moment overwrite each other. Let one process at a time write there.
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
    """Files, each in a task's folder. Names of tasks and files were checked by whoever calls."""

    @abstractmethod
    def path(self, *names: str) -> str:
        """How a person would find it."""

    @abstractmethod
    def names(self, *task: str) -> list[str]:
        """What is in the store, or in a task's folder; nothing where there is no folder.

        Raises:
            StoreError: not a folder, or a link.
        """

    @abstractmethod
    def opened(self, task: str, name: str) -> Opened:
        """A stream to read and its size in bytes.

        Raises:
            FileNotFoundError: there is no such file.
            StoreError: a link.
            AdapterError: not a regular file, or too large.
        """

    @abstractmethod
    def staged(self, task: str, adapter: Adapter) -> contextlib.AbstractContextManager[Publish]:
        """Write an adapter where nobody reads it, and give a function that makes it appear under a name.

        The function raises FileExistsError if the name is taken.
        """

    @abstractmethod
    def locked(self, task: str) -> contextlib.AbstractContextManager[None]:
        """One writer of a task at a time, where that can be had. The folder exists."""

    @abstractmethod
    def write(self, task: str, name: str, text: str) -> None:
        """A small file, whole or not at all."""

    @abstractmethod
    def delete(self, task: str, name: str) -> None:
        """Remove a file, if it is there."""

    @abstractmethod
    def sweep(self, task: str, older_than_s: float) -> list[str]:
        """Remove what interrupted writers left more than so many seconds ago; the paths removed."""


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
    def opened(self, task: str, name: str) -> Iterator[tuple[BinaryIO, int]]:
        with open_regular(self._file(task, name)) as (stream, size_bytes):
            yield stream, size_bytes

    @contextlib.contextmanager
    def staged(self, task: str, adapter: Adapter) -> Iterator[Publish]:
        folder = self._folder(task)
        folder.mkdir(parents=True, exist_ok=True)
        sync(self.root)
        part = folder / f".{uuid.uuid4().hex}{PART}"

        def publish(name: str) -> None:
            _link(part, folder / name)
            sync(folder)

        try:
            adapter.save(part)
            yield publish
        finally:
            part.unlink(missing_ok=True)

    @contextlib.contextmanager
    def locked(self, task: str) -> Iterator[None]:
        with FileLock(self._file(task, LOCK), poll_interval=POLL_S, fallback_to_soft=False):
            yield

    def write(self, task: str, name: str, text: str) -> None:
        write_text(self._file(task, name), text)

    def delete(self, task: str, name: str) -> None:
        self._folder(task).joinpath(name).unlink(missing_ok=True)
        sync(self._folder(task))

    def sweep(self, task: str, older_than_s: float) -> list[str]:
        swept = []
        for name in self.names(task):
            part = self._folder(task) / name
            if name.startswith(".") and name.endswith(PART) and not part.is_symlink() and part.is_file():
                with contextlib.suppress(FileNotFoundError):  # its writer was still there, and has finished
                    if time.time() - part.stat().st_mtime > older_than_s:
                        part.unlink()
                        swept.append(str(part))
        return swept

    def _folder(self, *task: str) -> Path:
        folder = self.root.joinpath(*task)
        if task and folder.is_symlink():
            raise StoreError(f"{folder} is a link; nothing in a store is read or written through links")
        if folder.exists() and not folder.is_dir():
            raise StoreError(f"{folder} is a file, where a task's folder should be")
        return folder

    def _file(self, task: str, name: str) -> Path:
        path = self._folder(task) / name
        if path.is_symlink():
            raise StoreError(f"{path} is a link; nothing in a store is read or written through links")
        return path


class RemoteFiles(Storage):
    """Anything with an fsspec address: ``s3://bucket/adapters``, ``memory://adapters``."""

    def __init__(self, files: Any, root: str, address: str) -> None:
        if files.isfile(root):
            raise StoreError(f"{address} is a file; a store is a folder")
        self.files, self.root, self.address = files, root.rstrip("/"), address.rstrip("/")

    def path(self, *names: str) -> str:
        return "/".join((self.address, *names))

    def names(self, *task: str) -> list[str]:
        folder = self._at(*task)
        self.files.invalidate_cache(folder)
        try:
            listed = self.files.ls(folder, detail=False)
        except FileNotFoundError:
            return []
        return sorted({path.rstrip("/").rpartition("/")[2] for path in listed if path.strip("/") != folder.strip("/")})

    @contextlib.contextmanager
    def opened(self, task: str, name: str) -> Iterator[tuple[BinaryIO, int]]:
        path = self._at(task, name)
        size_bytes = int(self.files.size(path))
        if size_bytes > MAX_FILE_BYTES:
            raise AdapterError(f"too large: {size_bytes:,} bytes, where at most {MAX_FILE_BYTES:,} are read")
        with self.files.open(path, "rb") as stream:
            yield stream, size_bytes

    @contextlib.contextmanager
    def staged(self, task: str, adapter: Adapter) -> Iterator[Publish]:
        content = adapter.to_bytes()
        yield lambda name: self.files.pipe_file(self._at(task, name), content, mode="create")

    @contextlib.contextmanager
    def locked(self, task: str) -> Iterator[None]:
        yield

    def write(self, task: str, name: str, text: str) -> None:
        self.files.pipe_file(self._at(task, name), text.encode())

    def delete(self, task: str, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.files.rm_file(self._at(task, name))

    def sweep(self, task: str, older_than_s: float) -> list[str]:
        return []

    def _at(self, *names: str) -> str:
        return "/".join((self.root, *names))


def storage_at(address: str | os.PathLike[str]) -> Storage:
    """A local folder, or an fsspec address if it has ``://``.

    Raises:
        StoreError: the address cannot be understood, or a file is there.
    """
    if not isinstance(address, str | os.PathLike):
        raise StoreError(f"a store is named by a folder, not by {type(address).__name__} {address!r}")
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


def _link(part: Path, target: Path) -> None:
    """Give ``part`` the name ``target`` too; FileExistsError if that is taken."""
    try:
        os.link(part, target)
    except OSError as error:
        # A file system without hard links: the lock alone keeps other writers away.
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
            raise
        if target.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        part.rename(target)
