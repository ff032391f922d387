"""Reads and writes JSON lines: one object per row."""

from __future__ import annotations

import json

from polytask.data.decoding import decode_utf8
from polytask.data.table import Cell, Row, Table
from polytask.errors import DataError


def read_json_lines(file: str, content: bytes) -> Table:
    """Read JSON lines into a table with one column per key.

    Raises:
        DataError: a line is not a JSON object, or contains characters that cannot be written back.
    """
    objects, lines = [], []
    for number, line in enumerate(decode_utf8(file, content).split("\n"), start=1):
        if line.strip():
            objects.append(json_object(file, number, line))
            lines.append(number)
    header = tuple(dict.fromkeys(key for item in objects for key in item))
    return Table(file, header, [[item.get(key) for key in header] for item in objects], lines)


def json_object(file: str, number: int, line: str) -> dict[str, Cell]:
    """The object on a line; errors name the line by this number."""
    fix = 'Each line must be one JSON object, such as {"text": "…", "label": "…"}'
    try:
        item = json.loads(line)
    except json.JSONDecodeError as error:
        problem = f"the line is not JSON: {error.msg} at character {error.pos + 1:,}"
        raise DataError(problem, file=file, line=number, fix=fix) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"the line cannot be read as JSON ({error})", file=file, line=number, fix=fix) from None
    if not isinstance(item, dict):
        kind = "an array" if isinstance(item, list) else f"a single value ({line.strip()[:20]})"
        raise DataError(f"the line is {kind}, not an object", file=file, line=number, fix=fix)
    if "\\u0000" in line and _contains_nul(item):
        problem = "a string contains a NUL character (\\u0000)"
        raise DataError(problem, file=file, line=number, fix="Remove it")
    if "\\ud" in line.lower() and not _is_valid_unicode(item):
        problem = "a string contains half a character (a lone surrogate, \\ud800 to \\udfff)"
        raise DataError(problem, file=file, line=number, fix="Write the whole character, or remove it")
    return item


def _contains_nul(item: Cell) -> bool:
    if isinstance(item, dict):
        return any(map(_contains_nul, [*item, *item.values()]))
    return any(map(_contains_nul, item)) if isinstance(item, list) else isinstance(item, str) and "\0" in item


def _is_valid_unicode(item: Cell) -> bool:
    try:
        json.dumps(item, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def write_json_lines(header: list[str], rows: list[Row]) -> bytes:
    """Format rows as JSON lines, in UTF-8."""
    lines = [json.dumps(dict(zip(header, row)), ensure_ascii=False, default=str) + "\n" for row in rows]
    return "".join(lines).encode("utf-8")
