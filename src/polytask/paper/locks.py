"""Locks on trials: two processes never run one trial.

A claim on a key is a lock on ``<key>.claim`` (``file_lock``). The operating system releases the claims of a killed
process at once. Between machines a claim holds where the file system passes locks on: NFS on Linux (byte-range locks of
the server, released when the client is gone), CephFS, GPFS, Lustre mounted with ``flock``. A file system without locks
is refused.
"""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock

from polytask.errors import PolytaskError
from polytask.file_lock import try_lock, unlock


class Claims:
    """The claims that this process holds on keys in a folder."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.held: dict[str, FileLock] = {}

    def take(self, key: str) -> bool:
        """Claim a key; False if another process, or another ``Claims`` of this one, holds it.

        Raises:
            PolytaskError: the file system has no locks.
        """
        assert key not in self.held, "claimed already"
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
        """Give up a key, if this process holds it."""
        lock = self.held.pop(key, None)
        if lock is not None:
            unlock(lock)

    def release_all(self) -> None:
        """Give up all keys."""
        for key in list(self.held):
            self.release(key)
