"""Atomic file writes: a reader sees the old file or the new one, never a part of it."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

from polytask.errors import DataError, WriteError


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path to write to, and move it to ``path`` when the block ends without an error.

    The content is synced to the disk before the file is renamed, so a power failure leaves the old file or the new
    one. After an error the temporary file is removed.

    Raises:
        WriteError: the system refuses the write: the disk is full, the folder is read-only, ….
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
        os.close(descriptor)
        part = Path(name)
        try:
            yield part
            part.chmod(0o644)
            sync(part)
            part.replace(target)
            sync(target.parent)
        finally:
            part.unlink(missing_ok=True)
    except WriteError:
        raise
    except OSError as error:
        raise WriteError(target, error.strerror or error) from error
    except SafetensorError as error:  # save_file wraps an OSError into it
        raise WriteError(target, error) from error


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all."""
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8", newline="")


def replace_between(path: str | os.PathLike[str], begin: str, end: str, text: str) -> None:
    """Replace what stands between two markers in a text file.

    Raises:
        DataError: the file cannot be read or has no such markers.
    """
    try:
        old = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"this cannot be read ({error.strerror})", file=path) from None
    before, found, rest = old.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise DataError("there is no place for the results", file=path, fix=f"Add the lines {begin} and {end}")
    write_text(path, f"{before}{begin}{text}{end}{after}")


def sync(path: Path) -> None:
    """Sync a file's content, or a folder's entries, to the disk."""
    if path.is_dir() and not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # some file systems refuse it for folders
        if not path.is_dir():
            raise
    finally:
        os.close(descriptor)
