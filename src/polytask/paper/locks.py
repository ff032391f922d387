"""Who runs what: a claim on a key, which the operating system gives up with the process that holds it.

A claim is an exclusive ``flock`` on ``<key>.claim``. What a killed process claimed is free at once, without timeouts
and without asking whether a process id still lives. Between machines it holds where the file system passes locks on:
NFS on Linux (byte-range locks of the server, freed when the client is gone), CephFS, GPFS, Lustre mounted with
``flock``. A file system without locks is refused. On Windows there is no ``flock``: run one process at a time there.
"""

from __future__ import annotations

import os
from pathlib import Path

from polytask.errors import PolytaskError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


class Claims:
    """The claims that this process holds on keys in a folder."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.held: dict[str, int] = {}

    def take(self, key: str) -> bool:
        """Whether the key is now ours; not if another process, or another ``Claims`` of this one, holds it.

        Raises:
            PolytaskError: the file system has no locks.
        """
        assert key not in self.held, "claimed already"
        self.folder.mkdir(parents=True, exist_ok=True)
        while True:
            descriptor = os.open(self._path(key), os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
            if not self._locked(descriptor):
                os.close(descriptor)
                return False
            if self._is_current(descriptor, key):
                self.held[key] = descriptor
                return True
            os.close(descriptor)  # removed by its holder after it was opened here: what we locked nobody else sees

    def release(self, key: str) -> None:
        """Give a key up; the file is removed while it is still ours."""
        descriptor = self.held.pop(key, None)
        if descriptor is not None:
            self._path(key).unlink(missing_ok=True)
            os.close(descriptor)

    def release_all(self) -> None:
        """Give all up."""
        for key in list(self.held):
            self.release(key)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.claim"

    def _locked(self, descriptor: int) -> bool:
        if fcntl is None:
            return True
        try:
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
        """Whether the file that is locked is the one that has the name."""
        try:
            return os.path.samestat(os.fstat(descriptor), os.stat(self._path(key)))
        except FileNotFoundError:
            return False
