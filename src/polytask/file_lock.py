"""One run at a time in one place: the second is refused, not mixed with the first.

The lock is a file beside what it guards. The system releases it with its process, however that ends; the file itself is
removed by whoever held it last, and so are folders that were made for it and stayed empty.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from polytask.errors import CheckpointError

try:
    import fcntl
except ImportError:  # Windows: nobody is kept out
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def exclusive_run(path: Path, what: str, instead: str) -> Iterator[None]:
    """Keep other processes from what is at ``path``, which need not be there.

    Args:
        path: the file that is guarded.
        what: what would be done twice, for the message.
        instead: what to do other than wait, for the message.

    Raises:
        CheckpointError: another process is at it.
    """
    if fcntl is None:
        yield
        return
    lock = path.with_name(f".{path.name}.lock")
    made = [folder for folder in lock.parents if not folder.exists()]
    descriptor = _held(lock, what, instead)
    try:
        os.truncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(descriptor)
        with contextlib.suppress(OSError):  # what was done there is there
            for folder in made:
                folder.rmdir()


def _held(lock: Path, what: str, instead: str) -> int:
    """The lock's descriptor. A holder removes the file, so the one that was opened may no longer be the one there."""
    while True:
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:  # removed just now by a holder who had made it
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            process = os.read(descriptor, 20).decode() or "unknown"
            os.close(descriptor)
            raise CheckpointError(
                f"{what} is under way already, in process {process}. Wait for it, or {instead}"
            ) from None
        with contextlib.suppress(FileNotFoundError):
            if os.fstat(descriptor).st_ino == os.stat(lock).st_ino:
                return descriptor
        os.close(descriptor)
