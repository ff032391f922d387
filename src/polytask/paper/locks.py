"""Locks on trials: two processes never run one trial.

Each is a file lock on ``<key>.claim``, which the system releases with its process. Between machines it holds where the
file system passes locks on: NFS on Linux, CephFS, GPFS, Lustre mounted with ``flock``.
"""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock

from polytask.errors import PolytaskError
from polytask.file_lock import try_lock, unlock


class TrialLocks:
    """The locks that this process holds on keys in a folder."""

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
