"""Streams the rows of a file as small tables, so that memory does not grow with the file.

The formats are those of ``polytask.data.formats``, and also ``.txt``: one text per line, in the column ``text``. An
error in the file is raised when its chunk is reached.
"""

from __future__ import annotations

import codecs
import gzip
import io
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import IO, Any, Protocol, TextIO, TypeVar

from polytask.data.csv import CsvRows, delimiter_in
from polytask.data.decoding import check_encoding
from polytask.data.formats import no_such_file
from polytask.data.json_lines import json_object
from polytask.data.parquet import arrow_columns
from polytask.data.table import PathLike, Table
from polytask.errors import DataError

CHUNK_ROWS = 1024
TEXT_LINES = (".txt", ".txt.gz")
"""The suffixes of files with one text per line."""
FORMATS = ("txt", "csv", "tsv", "jsonl")
"""The formats of a stream without a file name, such as standard input."""
T = TypeVar("T")


class Chunked(Protocol):
    """Groups items into chunks as they arrive; no chunk is empty."""

    def __call__(self, items: Iterator[T], /) -> Iterable[list[T]]: ...


def in_chunks(items: Iterator[T]) -> Iterable[list[T]]:
    """Group items into chunks of ``CHUNK_ROWS``."""
    return iter(lambda: list(itertools.islice(items, CHUNK_ROWS)), [])


class RowStream:
    """The rows of a file as tables of at most ``CHUNK_ROWS``, all with the columns of the first.

    Args:
        file: a path that ``can_stream``.
        encoding: the encoding of a text format (default: UTF-8).

    Raises:
        DataError: the file cannot be opened. Iterating raises the errors of ``read_table``.
    """

    def __init__(self, file: PathLike, encoding: str | None = None) -> None:
        self.file = os.fspath(file)
        if encoding is not None:
            check_encoding(encoding, file)
        self.encoding = encoding or "utf-8-sig"
        try:
            self._raw = io.BufferedReader(io.FileIO(file))
        except FileNotFoundError:
            raise no_such_file(file) from None
        except OSError as error:
            raise DataError(f"the file cannot be opened ({error.strerror})", file=file) from None
        self.size_bytes = os.fstat(self._raw.fileno()).st_size

    @property
    def share(self) -> float:
        """The fraction of the file that has been read, in [0, 1]."""
        return 1.0 if self._raw.closed else self._raw.tell() / max(self.size_bytes, 1)

    def __iter__(self) -> Iterator[Table]:
        with self._raw:
            if self.file.lower().endswith(".parquet"):
                yield from _parquet_tables(self.file, self._raw)
                return
            content: Any = gzip.GzipFile(fileobj=self._raw) if self.file.lower().endswith(".gz") else self._raw
            with io.TextIOWrapper(content, encoding=self.encoding, newline="") as text:
                yield from _READERS[_format_of(self.file)](self.file, checked_lines(self.file, text), in_chunks)


def can_stream(file: PathLike) -> bool:
    """Whether a file with this name can be read in chunks."""
    name = os.fspath(file).lower()
    return name.endswith((".parquet", *_READERS, *(f"{ending}.gz" for ending in _READERS))) and not name.endswith(
        _WHOLE
    )


def checked_lines(file: str, text: TextIO) -> Iterator[str]:
    """Yield the lines of a text with their line ends.

    Raises:
        DataError: it is damaged, has another encoding or contains a NUL character; the error gives the line.
    """
    number = 0
    try:
        for number, line in enumerate(text, start=1):
            if "\0" in line:
                raise DataError("the line contains a NUL character (byte 0)", file=file, line=number, fix="Remove it")
            yield line
    except UnicodeDecodeError as error:
        fix = "Give its encoding with --encoding, such as cp1252"
        problem = f"the text is not {codecs.lookup(error.encoding).name} ({error.reason})"
        raise DataError(problem, file=file, line=number + 1, fix=fix) from None
    except (EOFError, gzip.BadGzipFile, OSError) as error:
        raise DataError(f"the file is damaged ({error})", file=file, line=number + 1) from None


def tables_of(format: str, file: str, lines: Iterator[str], chunked: Chunked = in_chunks) -> Iterator[Table]:
    """Parse a stream of lines into tables, one for each chunk.

    Args:
        format: one of ``FORMATS``. Quotation marks in a TSV are parsed as spreadsheets write them.
        file: the name of the stream, for errors.
        lines: the lines, with their line ends.
        chunked: groups rows into chunks.
    """
    return _READERS[f".{format}"](file, lines, chunked)


def _text_tables(file: str, lines: Iterator[str], chunked: Chunked) -> Iterator[Table]:
    """One text per line; an empty line is an empty text."""
    for chunk in chunked(enumerate(lines, start=1)):
        rows = [[line.rstrip("\r\n")] for _, line in chunk]
        yield Table(file, ("text",), rows, [number for number, _ in chunk])


def _json_tables(file: str, lines: Iterator[str], chunked: Chunked) -> Iterator[Table]:
    header: tuple[str, ...] = ()
    for chunk in chunked(enumerate(lines, start=1)):
        objects = [(number, json_object(file, number, line)) for number, line in chunk if line.strip()]
        header = header or tuple(dict.fromkeys(key for _, item in objects for key in item))
        if objects:
            rows = [[item.get(key) for key in header] for _, item in objects]
            yield Table(file, header, rows, [number for number, _ in objects])


def _csv_tables(file: str, lines: Iterator[str], chunked: Chunked, delimiter: str | None = None) -> Iterator[Table]:
    first: list[str] = []
    for line in lines:
        first.append(line)
        if line.strip() and "".join(first).count('"') % 2 == 0:
            break
    rows = CsvRows(file, itertools.chain(first, lines), delimiter or delimiter_in("".join(first)))
    header = tuple(name.strip() for name in next((row for row, _ in rows), []))
    for chunk in chunked(rows):
        yield Table(file, header, [row for row, _ in chunk], [line for _, line in chunk])


def _parquet_tables(file: str, raw: IO[bytes]) -> Iterator[Table]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    start = 1
    try:
        for batch in pq.ParquetFile(raw).iter_batches(CHUNK_ROWS):
            columns, classes = arrow_columns(batch)
            rows = list(zip(*columns.values()))
            yield Table(file, tuple(columns), rows, range(start, start + len(rows)), classes)
            start += len(rows)
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).split("\n")[0]
        raise DataError(f"the file is not valid Parquet ({reason})", file=file, fix="Write or copy it again") from None


_READERS: dict[str, Callable[[str, Iterator[str], Chunked], Iterator[Table]]] = {
    ".txt": _text_tables,
    ".jsonl": _json_tables,
    ".ndjson": _json_tables,
    ".csv": _csv_tables,
    ".tsv": partial(_csv_tables, delimiter="\t"),
}
_WHOLE = (".tsv", ".tsv.gz")
"""Files that are read whole, because all rows are needed to interpret their quotation marks."""


def _format_of(file: str) -> Any:
    name = file.lower().removesuffix(".gz")
    return next(ending for ending in _READERS if name.endswith(ending))
