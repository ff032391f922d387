"""Locks on trials: no two processes run the same one. The operating system frees them with their process.

A lock is an exclusive ``flock`` on ``<key>.claim``. Between machines it holds if the file system supports locks: NFS on
Linux, CephFS, GPFS, Lustre mounted with ``flock``. A file system without locks is refused. Windows has no ``flock``:
run one process at a time there.
"""

from __future__ import annotations

import os
from pathlib import Path

from polytask.errors import PolytaskError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


class TrialLocks:
    """The locks that this process holds on keys in a folder."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.held: dict[str, int] = {}

    def acquire(self, key: str) -> bool:
        """Whether the key is now ours; not if another process, or another object of this one, holds it.

        Raises:
            PolytaskError: the file system has no locks.
        """
        assert key not in self.held, "already acquired"
        self.folder.mkdir(parents=True, exist_ok=True)
        while True:
            descriptor = os.open(self._path(key), os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
            if not self._locked(descriptor):
                os.close(descriptor)
                return False
            if self._is_current(descriptor, key):
                self.held[key] = descriptor
                return True
            os.close(descriptor)  # its holder removed the file after we opened it: nobody else sees our lock

    def release(self, key: str) -> None:
        """Release a key. Its file is removed while it is still locked."""
        descriptor = self.held.pop(key, None)
        if descriptor is not None:
            self._path(key).unlink(missing_ok=True)
            os.close(descriptor)

    def release_all(self) -> None:
        """Release all keys."""
        for key in list(self.held):
            self.release(key)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.claim"

    def _locked(self, descriptor: int) -> bool:
        try:
            if fcntl is not None:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            os.close(descriptor)
            raise PolytaskError(
                f"{self.folder}: the file system has no locks ({error.strerror}), so two processes could run the same "
                "trial. Keep the results on another one"
            ) from None
        return True

    def _is_current(self, descriptor: int, key: str) -> bool:
        """Whether the locked file still has the name."""
        try:
            return os.path.samestat(os.fstat(descriptor), os.stat(self._path(key)))
        except FileNotFoundError:
            return False
