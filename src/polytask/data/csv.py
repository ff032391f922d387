"""Parses and formats CSV and TSV, keeping the line on which each row starts.

* The separator of a CSV is the first of comma, semicolon and tab that occurs in its first line outside quotation
  marks. Spreadsheets write semicolons in countries with a decimal comma.
* Quotation marks follow RFC 4180. One that is never closed is an error; a lenient parser would read the rest of the
  file into one field.
* A TSV is quoted like a CSV, as spreadsheets and data-frame libraries write it. It is read without quoting, as GLUE's
  files need, if every line has the right number of tabs and the quoted reading fails, gives rows of unequal length or
  puts a tab and a line break into one field.
* Blank lines are skipped, except in a file with one column, where each is a row with a missing text.
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
"""Prefixes of cells that spreadsheets evaluate as formulas."""
_MAX_HEADER_CHARS = 1_000_000
"""The first line must end within this many characters."""


@dataclass(frozen=True)
class NumberedRows:
    """Rows of cells and the line on which each starts, counted from 1. The first row is the header."""

    rows: list[list[str]]
    lines: list[int]

    def add(self, row: list[str], line: int) -> None:
        """Add a row; skip a blank line (``[]``) before the header or in a table with several columns."""
        width = len(self.rows[0]) if self.rows else 0
        if not any(row):
            if not width or (not row and width > 1):
                return
            row = [""] * width
        self.rows.append(row)
        self.lines.append(line)

    def first_ragged(self) -> int | None:
        """Return the index of the first row whose length differs from the header's, or None."""
        return next((index for index, row in enumerate(self.rows) if len(row) != len(self.rows[0])), None)


def read_csv(file: str, text: str) -> NumberedRows:
    """Parse CSV.

    Args:
        file: the file's name, for error messages.
        text: its content.

    Raises:
        DataError: a quotation mark is not closed, or rows differ in length.
    """
    return _require_equal_lengths(file, _parse_quoted(file, text, delimiter_in(text)))


def delimiter_in(text: str) -> str:
    """The first of comma, semicolon and tab that occurs in the first line outside of quotation marks."""
    unquoted = re.sub(r'"[^"]*"', "", text[:_MAX_HEADER_CHARS].lstrip("\r\n"))
    first = re.split(r"[\r\n]", unquoted, maxsplit=1)[0]
    return next((mark for mark in ",;\t" if mark in first), ",")


class CsvRows:
    """Iterates over the rows of a CSV, each with the line on which it starts. The first row is the header.

    Raises:
        DataError: quotation marks are not closed, or a row is not as long as the first one.
    """

    def __init__(self, file: str, lines: Iterable[str], delimiter: str) -> None:
        csv.field_size_limit(max(csv.field_size_limit(), 2**31 - 1))  # documents are longer than its 128 KiB
        self.file = file
        self._reader = csv.reader(lines, delimiter=delimiter, strict=True)
        self._header = NumberedRows([], [])

    def __iter__(self) -> Iterator[tuple[list[str], int]]:
        return self

    def __next__(self) -> tuple[list[str], int]:
        """The next row that is not blank."""
        while True:
            line = self._reader.line_num + 1
            try:
                row = next(self._reader)
            except csv.Error as error:
                problem, fix = _explain_error(str(error))
                raise DataError(problem, file=self.file, line=line, fix=fix) from None
            found = NumberedRows(self._header.rows[:1], self._header.lines[:1])
            found.add(row, line)
            if len(found.rows) == len(self._header.rows):
                continue
            if not self._header.rows:
                self._header = found
            return _require_equal_lengths(self.file, found).rows[-1], line


def read_tsv(file: str, text: str) -> NumberedRows:
    """Parse TSV, quoted or not.

    Args:
        file: the file's name, for error messages.
        text: its content.

    Raises:
        DataError: rows differ in length, both with and without quoting.
    """
    plain = _parse_unquoted(text)
    odd = plain.first_ragged()
    try:
        quoted = _parse_quoted(file, text, "\t", hint="" if odd is None else _unquoted_hint(plain, odd))
    except DataError:
        if odd is not None:
            raise
        return plain
    swallows_lines = any("\t" in cell and "\n" in cell for row in quoted.rows for cell in row)
    if odd is None and (swallows_lines or quoted.first_ragged() is not None):
        return plain
    return _require_equal_lengths(file, quoted)


def format_delimited(header: Sequence[str] | None, rows: Iterable[Sequence[Any]], delimiter: str) -> str:
    """Format rows as CSV (``delimiter=","``) or TSV (``"\\t"``), for ``read_csv`` or ``read_tsv`` to read back.

    ``None`` becomes an empty cell; lists and mappings are written as JSON. Without a header, only the rows.
    """
    out = io.StringIO(newline="")
    writer = csv.writer(_LineFeedWriter(out), delimiter=delimiter)
    if header is not None:
        writer.writerow(header)
    writer.writerows([_format_cell(cell) for cell in row] for row in rows)
    return out.getvalue()


def _parse_quoted(file: str, text: str, delimiter: str, hint: str = "") -> NumberedRows:
    csv.field_size_limit(max(csv.field_size_limit(), 2**31 - 1))  # documents are longer than its 128 KiB
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    found = NumberedRows([], [])
    start = 1
    try:
        for row in reader:
            found.add(row, start)
            start = reader.line_num + 1
    except csv.Error as error:
        problem, fix = _explain_error(str(error))
        raise DataError(problem, file=file, line=start, fix=fix + hint) from None
    return found


def _explain_error(error: str) -> tuple[str, str]:
    doubled = 'Inside a quoted field, write a quotation mark twice ("")'
    if "unexpected end" in error:
        return "the row opens a quotation mark that is never closed", doubled
    if "expected after" in error:
        return "in this row, text follows a closing quotation mark before the separator", doubled
    return f"the row cannot be read ({error})", doubled


def _parse_unquoted(text: str) -> NumberedRows:
    found = NumberedRows([], [])
    lines = re.split(r"\r\n|\r|\n", text)
    for at, line in enumerate(lines if lines[-1] else lines[:-1], start=1):
        found.add(line.split("\t") if line else [], at)
    return found


def _unquoted_hint(plain: NumberedRows, odd: int) -> str:
    return (
        f". If quotation marks are ordinary characters in this file, fix line {plain.lines[odd]} instead: "
        f"it has {_count_fields(plain.rows[odd])} where the first line has {len(plain.rows[0])}"
    )


def _require_equal_lengths(file: str, found: NumberedRows) -> NumberedRows:
    odd = found.first_ragged()
    if odd is None:
        return found
    others = sum(len(row) != len(found.rows[0]) for row in found.rows) - 1
    more = f"; {others:,} more {'rows have' if others > 1 else 'row has'} the wrong number too" if others else ""
    raise DataError(
        f"the row has {_count_fields(found.rows[odd])} where the first line has {len(found.rows[0])}{more}",
        file=file,
        line=found.lines[odd],
        fix='Put a text that contains the separator in quotation marks: a,"b, c",d',
    )


def _count_fields(row: Sequence[str]) -> str:
    return "1 field" if len(row) == 1 else f"{len(row)} fields"


class _LineFeedWriter:
    """Ends rows with ``\\n``. The csv module ends them with ``\\r\\n``, and so quotes line breaks of any kind."""

    def __init__(self, out: io.StringIO) -> None:
        self.out = out

    def write(self, row: str) -> None:
        self.out.write(row.removesuffix("\r\n") + "\n")


def _format_cell(cell: Any) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, (list, dict)):
        return json.dumps(cell, ensure_ascii=False, default=str)
    return str(cell)
