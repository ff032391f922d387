"""Files that are written whole or not at all: a reader sees the old one or the new one, never half."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

from polytask.errors import WriteError


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path to write to; move it to ``path`` once the block ends without an error.

    The content reaches the disk before the name does, so a power cut leaves the old file or the
    new one. After an error nothing remains.

    Raises:
        WriteError: the system refuses it: the disk is full, the folder may not be written to, ….
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
    except SafetensorError as error:  # what save_file makes of a system's error
        raise WriteError(target, error) from error


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all."""
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8", newline="")


def sync(path: Path) -> None:
    """Wait until the content of a file, or the names in a folder, have reached the disk."""
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
