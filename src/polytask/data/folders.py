"""Files of published data sets, found in a folder whatever their exact place."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from polytask.errors import DataError


@dataclass(frozen=True)
class Found:
    """A task's folder on this machine. A sample stands in ``<name>_sample`` and holds only some of the rows."""

    folder: Path
    is_sample: bool


def find_folder(name: str, root: str | PathLike[str]) -> Found | None:
    """The folder ``name`` under ``root``, or else its sample."""
    whole, sample = Path(root, name), Path(root, f"{name}_sample")
    if whole.is_dir():
        return Found(whole, is_sample=False)
    return Found(sample, is_sample=True) if sample.is_dir() else None


def find_file(folder: Path, name: str) -> Path | None:
    """The file ``name`` in ``folder``, or else ``name.gz``."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def read_whole(path: str | PathLike[str]) -> str:
    """The whole text of a UTF-8 file, gzipped if its name ends in ``.gz``, less a byte order mark."""
    try:
        data = Path(path).read_bytes()
        if str(path).endswith(".gz"):
            data = gzip.decompress(data)
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise DataError("not UTF-8 text", file=path, line=line, fix="Save the file as UTF-8") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"not a whole gzip file ({error})", file=path) from error
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", file=path) from error
