"""Finds and reads the files of published data sets: whole or as a sample, gzipped or not."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from polytask.errors import DataError


@dataclass(frozen=True)
class TaskFolder:
    """A task's folder. A sample is in ``<name>_sample`` and has only some of the rows."""

    folder: Path
    is_sample: bool


def find_folder(name: str, root: str | PathLike[str]) -> TaskFolder | None:
    """Return the folder ``name`` under ``root``, else ``<name>_sample``, else None."""
    whole, sample = Path(root, name), Path(root, f"{name}_sample")
    if whole.is_dir():
        return TaskFolder(whole, is_sample=False)
    return TaskFolder(sample, is_sample=True) if sample.is_dir() else None


def find_file(folder: Path, name: str) -> Path | None:
    """Return the file ``name`` in ``folder``, else ``name.gz``, else None."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def read_text(path: str | PathLike[str]) -> str:
    """Read a UTF-8 file without its byte order mark; gzipped if its name ends in ``.gz``.

    Raises:
        DataError: the file cannot be read, or is not UTF-8 or not a complete gzip file.
    """
    try:
        data = Path(path).read_bytes()
        if str(path).endswith(".gz"):
            data = gzip.decompress(data)
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise DataError("not UTF-8 text", file=path, line=line, fix="Save the file as UTF-8") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"not a complete gzip file ({error})", file=path) from error
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", file=path) from error


def column_index(header: Sequence[str], name: str, file: str | PathLike[str]) -> int:
    """Return the index of a column in the header of ``file``.

    Raises:
        DataError: there is no such column.
    """
    if name not in header:
        raise DataError("there is no such column", file=file, column=name, fix=f"The columns are: {', '.join(header)}")
    return header.index(name)
