"""File locks: two processes never train into one checkpoint, and never run one trial.

The locks are those of ``filelock``. The operating system releases a lock when its process ends, however it ends, so no
timeout is needed and no process id is checked. Whoever holds a lock last removes its file.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from polytask.errors import CheckpointError, PolytaskError


def try_lock(path: Path) -> FileLock | None:
    """Lock a file without waiting; the file is created if need be, and holds the id of the locking process.

    Any thread may release the lock.

    Args:
        path: the lock file; its folder exists.

    Returns:
        The lock, or None while someone else holds it: another process, or another lock of this process.

    Raises:
        OSError: the file cannot be created, or the file system has no locks.
    """
    lock = FileLock(path, thread_local=False, fallback_to_soft=False, on_acquired=_write_process_id)
    while True:
        try:
            lock.acquire(blocking=False)
        except Timeout:
            if path.exists():  # else its holder removed it after it was opened here: try again
                return None
        else:
            return lock


def unlock(lock: FileLock) -> None:
    """Remove the lock's file, then release the lock: a process that opened the file before sees that it is gone."""
    with contextlib.suppress(OSError):  # Windows removes an open file only once it is closed, which ``release`` does
        os.unlink(lock.lock_file)
    lock.release()


@contextlib.contextmanager
def exclusive_run(path: Path, what: str, instead: str) -> Iterator[None]:
    """Within the block no other process runs on ``path``; folders created for the lock are removed if left empty.

    Args:
        path: the file to protect, which need not exist. The lock file is beside it.
        what: the run, for the message.
        instead: what to do other than wait, for the message.

    Raises:
        CheckpointError: another process is running on ``path``.
    """
    lock_file = path.with_name(f".{path.name}.lock")
    created = [folder for folder in lock_file.parents if not folder.exists()]
    lock = _lock_or_refuse(lock_file, what, instead)
    try:
        yield
    finally:
        unlock(lock)
        with contextlib.suppress(OSError):  # not empty: the run has written into it
            for folder in created:
                folder.rmdir()


class KeyLocks:
    """The locks that this process holds on keys, each on a file ``<key>.claim`` in a folder.

    Between machines they hold where the file system passes locks on: NFS on Linux, CephFS, GPFS, Lustre mounted with
    ``flock``.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.held: dict[str, FileLock] = {}

    def acquire(self, key: str) -> bool:
        """Lock a key; False if another process, or another object of this one, holds it.

        Raises:
            PolytaskError: the file system has no locks.
        """
        assert key not in self.held, "already acquired"
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            lock = try_lock(self.folder / f"{key}.claim")
        except OSError as error:
            raise PolytaskError(
                f"{self.folder}: the file system has no locks ({error.strerror}), so two processes could run the same "
                "trial. Keep the results on another one"
            ) from None
        if lock is not None:
            self.held[key] = lock
        return lock is not None

    def release(self, key: str) -> None:
        """Release a key, if this process holds it."""
        lock = self.held.pop(key, None)
        if lock is not None:
            unlock(lock)

    def release_all(self) -> None:
        """Release all keys."""
        for key in list(self.held):
            self.release(key)


def _lock_or_refuse(lock_file: Path, what: str, instead: str) -> FileLock:
    while True:
        lock_file.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock = try_lock(lock_file)
        except FileNotFoundError:  # the folder was removed just now by the process that had created it
            continue
        if lock is not None:
            return lock
        process = _process_id(lock_file)
        raise CheckpointError(f"{what} is already running in process {process}. Wait for it, or {instead}")


def _write_process_id(descriptor: int) -> None:
    os.ftruncate(descriptor, 0)
    os.write(descriptor, str(os.getpid()).encode())


def _process_id(lock_file: Path) -> str:
    with contextlib.suppress(OSError):
        return lock_file.read_text(encoding="ascii") or "unknown"
    return "unknown"
