"""Reads and writes tables as CSV, TSV, JSON lines and Parquet, with line numbers for error messages.

Text formats are UTF-8, with or without a byte order mark, unless another encoding is given; they may be gzipped
(``.csv.gz``). A row's line is the line on which it starts, counted from 1; in Parquet, which has no lines, it is the
number of the row. ``csv.py`` describes how CSV and TSV are parsed, including quotation marks.
"""

from __future__ import annotations

import codecs
import contextlib
import difflib
import gzip
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from polytask.data import csv
from polytask.data.decoding import check_encoding, decode_utf8, gunzip, to_utf8
from polytask.data.json_lines import read_json_lines, write_json_lines
from polytask.data.parquet import read_parquet, write_parquet
from polytask.data.table import PathLike, Row, Table
from polytask.errors import DataError
from polytask.files import whole_file


def read_table(path: PathLike, encoding: str | None = None) -> Table:
    """Read a ``.csv``, ``.tsv``, ``.jsonl``, ``.ndjson`` or ``.parquet`` file; text formats may end in ``.gz``.

    Args:
        path: the file.
        encoding: the encoding of a text format, such as ``cp1252`` (default: UTF-8). Ignored for Parquet, so that
            both can be read with one setting.

    Raises:
        DataError: the file is missing or damaged, has another format or encoding, or has no rows.
    """
    format, is_zipped = _format_of(path)
    if encoding is not None:
        check_encoding(encoding, path)
    content = _read_bytes(path)
    if is_zipped:
        content = gunzip(path, content)
    if not content.removeprefix(codecs.BOM_UTF8).strip():
        raise DataError("the file is empty", file=path, fix="A line of column names and at least one row are needed")
    if encoding is not None and format in _TEXT_FORMATS:
        content = to_utf8(path, content, encoding)
    table = _READERS[format](os.fspath(path), content)
    for name, count in Counter(table.header).items():
        if count > 1 and name:
            fix = "Rename one of them; the first line must name the columns"
            raise DataError(f"two columns are called {name!r}", file=path, fix=fix)
    if not table.rows:
        raise DataError("there are no rows, only column names", file=path, fix="Add at least one row")
    return table


def write_table(
    path: PathLike, header: Sequence[str], rows: Iterable[Row], classes: Mapping[str, Sequence[str]] | None = None
) -> None:
    """Write rows in the format given by the file's suffix, whole or not at all. ``read_table`` reads them back.

    Args:
        path: the file.
        header: the column names.
        rows: the rows, each with one cell per column.
        classes: the class names of columns, as in ``Table``; only Parquet stores them.

    Raises:
        DataError: the suffix is not supported, or the rows cannot be written in this format.
    """
    format, is_zipped = _format_of(path)
    if format == ".parquet":
        content = write_parquet(os.fspath(path), list(header), list(rows), classes or {})
    else:
        content = _WRITERS[format](list(header), list(rows))
    with whole_file(path) as part:
        part.write_bytes(gzip.compress(content, mtime=0) if is_zipped else content)


def check_writable(path: PathLike) -> None:
    """Raise the error that ``write_table`` would raise for this file name, before any work is done."""
    _format_of(path)


# -- names and bytes --------------------------------------------------------------------------------------------------

_TEXT_FORMATS = (".csv", ".tsv", ".jsonl", ".ndjson")
SUFFIXES = (*_TEXT_FORMATS, ".parquet", *(f"{suffix}.gz" for suffix in _TEXT_FORMATS))
"""The supported suffixes, in lower or upper case."""

JSON_SUFFIXES = (".json", ".json.gz")
"""The suffixes of SQuAD's JSON files, which only tasks of kind ``span`` read."""

_ADVICE = {
    ".json": "If each line is one JSON object, call it .jsonl; if it is one array, convert it with jq -c '.[]'; "
    "if it is SQuAD's, use --kind span",
    ".txt": "If its columns are separated by tabs, call it .tsv; by commas, .csv",
    ".xls": "Save the sheet as 'CSV UTF-8'",
    ".xlsx": "Save the sheet as 'CSV UTF-8'",
    ".ods": "Save the sheet as CSV with the character set UTF-8",
    ".zip": "Unpack it first",
}


def encodings_of(files: Sequence[object], encoding: str | None) -> list[str | None]:
    """The encoding of each file; None for SQuAD's JSON, which is UTF-8 even if the other files are not."""
    is_json = [isinstance(file, str | os.PathLike) and str(file).lower().endswith(JSON_SUFFIXES) for file in files]
    is_mixed = any(file is not None and not json for file, json in zip(files, is_json))
    return [None if json and is_mixed else encoding for json in is_json]


def stem(path: PathLike) -> str:
    """Return the file's name without its folder and its supported suffix."""
    name = Path(path).name
    endings = (*SUFFIXES, *JSON_SUFFIXES)
    ending = max((suffix for suffix in endings if name.lower().endswith(suffix)), key=len, default="")
    return name[: len(name) - len(ending)]


def _format_of(path: PathLike) -> tuple[str, bool]:
    name = Path(path).name.lower()
    for suffix in SUFFIXES:
        if name.endswith(suffix):
            return suffix.removesuffix(".gz"), suffix.endswith(".gz")
    if Path(path).is_dir():
        raise _folder_error(path)
    ending = Path(name.removesuffix(".gz")).suffix
    instead = f"{_ADVICE[ending]}. " if ending in _ADVICE else ""
    problem = (
        f"files ending in {ending!r} are not supported"
        if ending
        else "the file name has no suffix that gives its format"
    )
    raise DataError(problem, file=path, fix=f"{instead}Supported are: {', '.join(SUFFIXES)}")


def _read_bytes(path: PathLike) -> bytes:
    place = Path(path)
    try:
        return place.read_bytes()
    except FileNotFoundError:
        raise no_such_file(path) from None
    except IsADirectoryError:
        raise _folder_error(path) from None
    except (OSError, ValueError) as error:
        raise DataError(f"the file cannot be opened ({error})", file=path) from None


def no_such_file(path: PathLike) -> DataError:
    """The error for a missing file; it suggests a similar name, or lists the files in the folder."""
    place = Path(path)
    if not place.parent.is_dir():
        return DataError(f"there is no folder {str(place.parent)!r}", file=path)
    there = _supported_files(place.parent)
    near = difflib.get_close_matches(place.name, there, n=1)
    fix = f"Did you mean {str(place.parent / near[0])!r}?" if near else f"Its folder has{_listed(there)}"
    return DataError("there is no such file", file=path, fix=fix)


def _folder_error(path: PathLike) -> DataError:
    return DataError("this is a folder, not a file", file=path, fix=f"It has{_listed(_supported_files(Path(path)))}")


def _supported_files(folder: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return sorted(place.name for place in folder.iterdir() if place.name.lower().endswith(SUFFIXES))
    return []


def _listed(names: Sequence[str], most: int = 8) -> str:
    if not names:
        return " no file of a supported format"
    return ": " + ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


# -- the formats ------------------------------------------------------------------------------------------------------


def _delimited_reader(read: Callable[[str, str], csv.NumberedRows]) -> Callable[[str, bytes], Table]:
    def reader(file: str, content: bytes) -> Table:
        found = read(file, decode_utf8(file, content))
        header = tuple(name.strip() for name in found.rows[0]) if found.rows else ()
        return Table(file, header, found.rows[1:], found.lines[1:])

    return reader


_READERS: dict[str, Callable[[str, bytes], Table]] = {
    ".csv": _delimited_reader(csv.read_csv),
    ".tsv": _delimited_reader(csv.read_tsv),
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".parquet": read_parquet,
}
_WRITERS: dict[str, Callable[[list[str], list[Row]], bytes]] = {
    ".csv": lambda header, rows: csv.format_delimited(header, rows, ",").encode("utf-8"),
    ".tsv": lambda header, rows: csv.format_delimited(header, rows, "\t").encode("utf-8"),
    ".jsonl": write_json_lines,
    ".ndjson": write_json_lines,
}
