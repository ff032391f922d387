"""CSV and TSV: text to rows with the line each starts on, and back. What is unusual:

* A CSV is separated by the first of comma, semicolon and tab that occurs in its first line outside of quotation
  marks, so that what spreadsheets write in countries with a decimal comma is read too.
* Quotation marks are held to RFC 4180: one that is never closed is refused, where a lenient reader would
  swallow the rest of the file into one field.
* A TSV is quoted like a CSV, as spreadsheets and data-frame libraries write it, unless that reading fails,
  is ragged or puts a tab and a line end into one field while every line by itself has the right number of
  tabs. Then quotation marks are ordinary characters, as in GLUE's files.
* Blank lines are passed over, but in a file of one column they are rows: a text is missing there.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from polytask.errors import DataError

FORMULAS = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula."""
_MOST_HEADER = 1_000_000
"""Characters in which the first line is looked for."""


@dataclass(frozen=True)
class Lines:
    """Rows of cells, the first of which names the columns, and the line each starts on, counted from 1."""

    rows: list[list[str]]
    lines: list[int]

    def add(self, row: list[str], line: int) -> None:
        """Take a row, ``[]`` for a blank line: none before the names of the columns, and of one column any."""
        width = len(self.rows[0]) if self.rows else 0
        if not any(row):
            if not width or (not row and width > 1):
                return
            row = [""] * width
        self.rows.append(row)
        self.lines.append(line)

    def ragged(self) -> int | None:
        """The index of the first row that is not as long as the first one."""
        return next((index for index, row in enumerate(self.rows) if len(row) != len(self.rows[0])), None)


def read_csv(file: str, text: str) -> Lines:
    """Read ``text``, the content of ``file``, as CSV.

    Raises:
        DataError: quotation marks are not closed, or rows are not equally long.
    """
    return _even(file, _quoted(file, text, delimiter_in(text)))


def delimiter_in(text: str) -> str:
    """The first of comma, semicolon and tab that occurs in the first line outside of quotation marks."""
    unquoted = re.sub(r'"[^"]*"', "", text[:_MOST_HEADER].lstrip("\r\n"))
    first = re.split(r"[\r\n]", unquoted, maxsplit=1)[0]
    return next((mark for mark in ",;\t" if mark in first), ",")


class CsvRows:
    """The rows of a CSV as they are read, the names of the columns first, each with the line it starts on.

    Raises:
        DataError: quotation marks are not closed, or a row is not as long as the first one.
    """

    def __init__(self, file: str, lines: Iterable[str], delimiter: str) -> None:
        csv.field_size_limit(max(csv.field_size_limit(), 2**31 - 1))  # documents are longer than its 128 KiB
        self.file = file
        self._reader = csv.reader(lines, delimiter=delimiter, strict=True)
        self._header = Lines([], [])

    def __iter__(self) -> Iterator[tuple[list[str], int]]:
        return self

    def __next__(self) -> tuple[list[str], int]:
        """The next row that is not blank."""
        while True:
            line = self._reader.line_num + 1
            try:
                row = next(self._reader)
            except csv.Error as error:
                problem, fix = _explained(str(error))
                raise DataError(problem, file=self.file, line=line, fix=fix) from None
            found = Lines(self._header.rows[:1], self._header.lines[:1])
            found.add(row, line)
            if len(found.rows) == len(self._header.rows):
                continue
            if not self._header.rows:
                self._header = found
            return _even(self.file, found).rows[-1], line


def read_tsv(file: str, text: str) -> Lines:
    """Read ``text``, the content of ``file``, as TSV, quoted or not.

    Raises:
        DataError: rows are not equally long, with quotation marks read either way.
    """
    plain = _unquoted(text)
    odd = plain.ragged()
    try:
        quoted = _quoted(file, text, "\t", hint="" if odd is None else _if_unquoted(plain, odd))
    except DataError:
        if odd is not None:
            raise
        return plain
    swallows_lines = any("\t" in cell and "\n" in cell for row in quoted.rows for cell in row)
    if odd is None and (swallows_lines or quoted.ragged() is not None):
        return plain
    return _even(file, quoted)


def write_separated(header: Sequence[str], rows: Iterable[Sequence[Any]], delimiter: str) -> str:
    """The text that ``read_csv`` (``delimiter=","``) or ``read_tsv`` (``"\\t"``) reads back.

    No value is an empty cell; lists are written as JSON.
    """
    out = io.StringIO(newline="")
    writer = csv.writer(_LineFeeds(out), delimiter=delimiter)
    writer.writerow(header)
    writer.writerows([_spelled(cell) for cell in row] for row in rows)
    return out.getvalue()


def _quoted(file: str, text: str, delimiter: str, hint: str = "") -> Lines:
    csv.field_size_limit(max(csv.field_size_limit(), 2**31 - 1))  # documents are longer than its 128 KiB
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    found = Lines([], [])
    start = 1
    try:
        for row in reader:
            found.add(row, start)
            start = reader.line_num + 1
    except csv.Error as error:
        problem, fix = _explained(str(error))
        raise DataError(problem, file=file, line=start, fix=fix + hint) from None
    return found


def _explained(error: str) -> tuple[str, str]:
    doubled = 'Inside a quoted text a quotation mark is written twice ("")'
    if "unexpected end" in error:
        return "the row opens a quotation mark that is never closed", doubled
    if "expected after" in error:
        return "in this row a quotation mark closes a field, and more text follows before the separator", doubled
    return f"the row cannot be read ({error})", doubled


def _unquoted(text: str) -> Lines:
    found = Lines([], [])
    lines = re.split(r"\r\n|\r|\n", text)
    for at, line in enumerate(lines if lines[-1] else lines[:-1], start=1):
        found.add(line.split("\t") if line else [], at)
    return found


def _if_unquoted(plain: Lines, odd: int) -> str:
    return (
        f". If quotation marks are ordinary characters in this file, mend line {plain.lines[odd]} instead: "
        f"it has {_fields(plain.rows[odd])} where the first line has {len(plain.rows[0])}"
    )


def _even(file: str, found: Lines) -> Lines:
    odd = found.ragged()
    if odd is None:
        return found
    others = sum(len(row) != len(found.rows[0]) for row in found.rows) - 1
    more = f"; {others:,} more {'rows are' if others > 1 else 'row is'} uneven too" if others else ""
    raise DataError(
        f"the row has {_fields(found.rows[odd])} where the first line has {len(found.rows[0])}{more}",
        file=file,
        line=found.lines[odd],
        fix='A text that holds the separator must be put between quotation marks: a,"b, c",d',
    )


def _fields(row: Sequence[str]) -> str:
    return "1 field" if len(row) == 1 else f"{len(row)} fields"


class _LineFeeds:
    """Ends lines in ``\\n`` while the csv module quotes as for ``\\r\\n``: it leaves no line end of any kind bare."""

    def __init__(self, out: io.StringIO) -> None:
        self.out = out

    def write(self, row: str) -> None:
        self.out.write(row.removesuffix("\r\n") + "\n")


def _spelled(cell: Any) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, (list, dict)):
        return json.dumps(cell, ensure_ascii=False, default=str)
    return str(cell)
