"""Files of rows: CSV, TSV, JSON lines and Parquet, read so that every complaint can name file and line.

The text formats are UTF-8, with or without a byte-order mark, unless another encoding is named, and may be gzipped
(``.csv.gz``). The line of a row is the line it starts on, counted from 1; in Parquet, which has no lines, it is the
number of the row. How CSV and TSV are read, quotation marks above all, is told in ``separated.py``.
"""

from __future__ import annotations

import codecs
import contextlib
import difflib
import gzip
import io
import json
import os
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from polytask.atomic import whole_file
from polytask.errors import DataError
from polytask.tasks import separated

PathLike = str | os.PathLike[str]
Cell = Any
"""A string in CSV and TSV; in JSON lines and Parquet any plain Python value, ``None`` where there is none."""

Row = Sequence[Cell]


@dataclass(frozen=True)
class Column:
    """One column of a table, which knows where its cells stand."""

    file: str
    name: str
    cells: Sequence[Cell]
    lines: Sequence[int]

    def error(self, row: int, problem: str, fix: str | None = None) -> DataError:
        """The error that says what is wrong with the cell in this row (counted from 0)."""
        return DataError(problem, file=self.file, line=self.lines[row], column=self.name, fix=fix)


@dataclass(frozen=True)
class Table:
    """The rows of a file, in order. Every row has as many cells as ``header``; ``lines`` says where it starts.

    Names in ``header`` occur once each, except the empty name of columns that have none. ``classes`` has, by column,
    the names of its classes in the order of their indices, where the file tells them.
    """

    file: str
    header: tuple[str, ...]
    rows: Sequence[Row]
    lines: Sequence[int]
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, index: int) -> Column:
        """The column at this index."""
        return Column(self.file, self.header[index], [row[index] for row in self.rows], self.lines)

    def take(self, rows: Sequence[int]) -> Table:
        """These rows only, in this order."""
        return replace(self, rows=[self.rows[row] for row in rows], lines=[self.lines[row] for row in rows])

    def without_blank(self) -> Table:
        """Only the rows that have something in a cell.

        Raises:
            DataError: there are none.
        """
        kept = [row for row, cells in enumerate(self.rows) if any(cell not in ("", None) for cell in cells)]
        if not kept:
            raise DataError("there are no rows, only column names", file=self.file, fix="Add at least one row")
        return self if len(kept) == len(self) else self.take(kept)


def read_table(path: PathLike, encoding: str | None = None) -> Table:
    """Read a ``.csv``, ``.tsv``, ``.jsonl``, ``.ndjson`` or ``.parquet``; the text formats also with ``.gz``.

    ``encoding`` is what a text format is written in, ``cp1252`` say, where that is not UTF-8; of Parquet it says
    nothing, so that files of both sorts can be read with one encoding.

    Raises:
        DataError: the file is missing, damaged, of another format or encoding, or has no rows.
    """
    format, is_zipped = _format_of(path)
    if encoding is not None:
        _check_encoding(encoding, path)
    content = _content(path)
    if is_zipped:
        content = _unzipped(path, content)
    if not content.removeprefix(codecs.BOM_UTF8).strip():
        raise DataError("the file is empty", file=path, fix="A line of column names and at least one row are needed")
    if encoding is not None and format in _TEXT_FORMATS:
        content = _recoded(path, content, encoding)
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
    """Write rows in the format the name asks for, whole or not at all. ``read_table`` reads them back.

    ``classes`` is that of a ``Table``; only Parquet has a place for it.

    Raises:
        DataError: the name does not end in one of the formats, or the rows cannot be written in it.
    """
    format, is_zipped = _format_of(path)
    if format == ".parquet":
        content = _write_parquet(os.fspath(path), list(header), list(rows), classes or {})
    else:
        content = _WRITERS[format](list(header), list(rows))
    with whole_file(path) as part:
        part.write_bytes(gzip.compress(content, mtime=0) if is_zipped else content)


def check_writable(path: PathLike) -> None:
    """Refuse, before any work is done, a name that ``write_table`` would refuse."""
    _format_of(path)


# -- names and bytes --------------------------------------------------------------------------------------------------

_TEXT_FORMATS = (".csv", ".tsv", ".jsonl", ".ndjson")
SUFFIXES = (*_TEXT_FORMATS, ".parquet", *(f"{suffix}.gz" for suffix in _TEXT_FORMATS))
"""How the name of a file must end, in small or capital letters."""

JSON_SUFFIXES = (".json", ".json.gz")
"""How the name of a file of SQuAD's JSON ends; only tasks of spans have such."""

_INSTEAD = {
    ".json": "If each line is one JSON object, call it .jsonl; if it is one array, convert it with jq -c '.[]'; "
    "if it is SQuAD's, ask for --kind span",
    ".txt": "If its columns are separated by tabs, call it .tsv; by commas, .csv",
    ".xls": "Save the sheet as 'CSV UTF-8'",
    ".xlsx": "Save the sheet as 'CSV UTF-8'",
    ".ods": "Save the sheet as CSV with the character set UTF-8",
    ".zip": "Unpack it first",
}


def stem(path: PathLike) -> str:
    """The file's name without its folder and without the ending that says its format."""
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
        raise _folder(path)
    ending = Path(name.removesuffix(".gz")).suffix
    instead = f"{_INSTEAD[ending]}. " if ending in _INSTEAD else ""
    problem = (
        f"files ending in {ending!r} are not supported" if ending else "the name has no ending that says its format"
    )
    raise DataError(problem, file=path, fix=f"{instead}Supported are: {', '.join(SUFFIXES)}")


def _content(path: PathLike) -> bytes:
    place = Path(path)
    try:
        return place.read_bytes()
    except FileNotFoundError:
        if not place.parent.is_dir():
            raise DataError(f"there is no folder {str(place.parent)!r}", file=path) from None
        there = _readable_in(place.parent)
        near = difflib.get_close_matches(place.name, there, n=1)
        fix = f"Did you mean {str(place.parent / near[0])!r}?" if near else f"Its folder has{_listed(there)}"
        raise DataError("there is no such file", file=path, fix=fix) from None
    except IsADirectoryError:
        raise _folder(path) from None
    except (OSError, ValueError) as error:
        raise DataError(f"the file cannot be opened ({error})", file=path) from None


def _folder(path: PathLike) -> DataError:
    return DataError("this is a folder, not a file", file=path, fix=f"It has{_listed(_readable_in(Path(path)))}")


def _readable_in(folder: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return sorted(place.name for place in folder.iterdir() if place.name.lower().endswith(SUFFIXES))
    return []


def _listed(names: Sequence[str], most: int = 8) -> str:
    if not names:
        return " no file of a supported format"
    return ": " + ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def _unzipped(path: PathLike, content: bytes) -> bytes:
    try:
        return gzip.decompress(content)
    except EOFError:
        problem, fix = "the gzip file ends too early", "Copy or download it again"
    except gzip.BadGzipFile as error:
        is_gzip = content.startswith(b"\x1f\x8b")
        problem = (
            f"the gzip file is damaged ({error})" if is_gzip else "the name ends in .gz, but it is not a gzip file"
        )
        fix = "Copy or download it again" if is_gzip else "If it is not compressed, take .gz off its name"
    except (zlib.error, OSError) as error:
        problem, fix = f"the gzip file is damaged ({error})", "Copy or download it again"
    raise DataError(problem, file=path, fix=fix)


def _check_encoding(encoding: str, path: PathLike) -> None:
    try:
        "".encode(encoding)
    except (LookupError, ValueError):
        fix = "Usual are utf-8, cp1252, latin1, utf-16, gb18030 and shift_jis"
        raise DataError(f"no encoding is called {encoding!r}", file=path, fix=fix) from None


def _recoded(path: PathLike, content: bytes, encoding: str) -> bytes:
    """The content in UTF-8."""
    try:
        return content.decode(encoding).encode("utf-8")
    except UnicodeError as error:
        reason = getattr(error, "reason", error)
        fix = "Name the one that it has with --encoding, or leave that out for UTF-8"
        at = content[: getattr(error, "start", 0)]
        raise DataError(
            f"the file is not {encoding} ({reason})", file=path, line=1 + at.count(b"\n") if at else None, fix=fix
        ) from None


def _decoded(file: str, content: bytes) -> str:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError("the file is UTF-16, not UTF-8", file=file, fix=_recoding(file, "utf-16"))
    text = content.removeprefix(codecs.BOM_UTF8)
    try:
        decoded = text.decode("utf-8")
    except UnicodeDecodeError as error:
        at = error.start
        raise DataError(
            f"byte {text[at]:#04x} is not UTF-8, near {text[max(0, at - 20) : at + 10].decode('cp1252', 'replace')!r}",
            file=file,
            line=_line_at(text[:at].decode("utf-8"), at),
            fix=f"The file is probably {_likely_encoding(text)}. {_recoding(file, _likely_encoding(text))}",
        ) from None
    if "\0" in decoded:
        line = _line_at(decoded, decoded.index("\0"))
        raise DataError("the line holds a NUL character (byte 0)", file=file, line=line, fix="Take it out")
    return decoded


def _line_at(text: str, index: int) -> int:
    return 1 + len(re.findall(r"\r\n|\r|\n", text[:index]))


def _likely_encoding(content: bytes) -> str:
    try:
        content.decode("cp1252")
    except UnicodeDecodeError:
        return "latin1"
    return "cp1252"


def _recoding(file: str, encoding: str) -> str:
    return f"Say so with --encoding {encoding}"


# -- the formats ------------------------------------------------------------------------------------------------------


def _separated(read: Callable[[str, str], separated.Lines]) -> Callable[[str, bytes], Table]:
    def reader(file: str, content: bytes) -> Table:
        found = read(file, _decoded(file, content))
        header = tuple(name.strip() for name in found.rows[0]) if found.rows else ()
        return Table(file, header, found.rows[1:], found.lines[1:])

    return reader


def _read_json_lines(file: str, content: bytes) -> Table:
    objects, lines = [], []
    for number, line in enumerate(_decoded(file, content).split("\n"), start=1):
        if line.strip():
            objects.append(_object(file, number, line))
            lines.append(number)
    header = tuple(dict.fromkeys(key for item in objects for key in item))
    return Table(file, header, [[item.get(key) for key in header] for item in objects], lines)


def _object(file: str, number: int, line: str) -> dict[str, Cell]:
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
    if "\\u0000" in line and _holds_nul(item):
        problem = "a string holds a NUL character (\\u0000)"
        raise DataError(problem, file=file, line=number, fix="Take it out")
    if "\\ud" in line.lower() and not _is_whole(item):
        problem = "a string holds half a character (a lone surrogate, \\ud800 to \\udfff)"
        raise DataError(problem, file=file, line=number, fix="Write the whole character, or take it out")
    return item


def _holds_nul(item: Cell) -> bool:
    if isinstance(item, dict):
        return any(map(_holds_nul, [*item, *item.values()]))
    return any(map(_holds_nul, item)) if isinstance(item, list) else isinstance(item, str) and "\0" in item


def _is_whole(item: Cell) -> bool:
    try:
        json.dumps(item, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _write_json_lines(header: list[str], rows: list[Row]) -> bytes:
    lines = [json.dumps(dict(zip(header, row)), ensure_ascii=False, default=str) + "\n" for row in rows]
    return "".join(lines).encode("utf-8")


def _read_parquet(file: str, content: bytes) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(pa.BufferReader(content)).read()
        columns = [column.to_pylist() for column in table.columns]
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        reason = str(error).split("\n")[0]
        raise DataError(f"the file is not sound Parquet ({reason})", file=file, fix="Write or copy it again") from None
    classes = _classes_in(table.schema.metadata or {})
    header = tuple(table.column_names)
    columns = [
        [named(cell, classes.get(name, ())) for cell in column] if name in classes else column
        for name, column in zip(header, columns)
    ]
    rows = list(zip(*columns))
    return Table(file, header, rows, range(1, len(rows) + 1), classes)


def _classes_in(metadata: Mapping[bytes, bytes]) -> dict[str, tuple[str, ...]]:
    """By column, the names of its classes, as Hugging Face's ``datasets`` writes them beside a schema."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"].items()
    except (ValueError, LookupError, TypeError, AttributeError):
        return {}
    found = {}
    for column, feature in features:
        feature = feature[0] if isinstance(feature, list) and len(feature) == 1 else feature
        of_each = feature.get("feature", feature) if isinstance(feature, dict) else {}
        names = of_each.get("names") if isinstance(of_each, dict) and of_each.get("_type") == "ClassLabel" else None
        if isinstance(names, list) and all(isinstance(name, str) and name.strip() for name in names):
            stripped = tuple(name.strip() for name in names)
            if len({*stripped}) == len(stripped):
                found[column] = stripped
    return found


def named(cell: Cell, names: Sequence[str]) -> Cell:
    """The name of a class for its index, ``None`` for -1, which stands for an unknown one; other cells as they are."""
    if isinstance(cell, list):
        return [named(each, names) for each in cell]
    if not isinstance(cell, int) or isinstance(cell, bool) or cell >= len(names):
        return cell
    return names[cell] if cell >= 0 else None


def _write_parquet(file: str, header: list[str], rows: list[Row], classes: Mapping[str, Sequence[str]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = io.BytesIO()
    try:
        columns = [pa.array([row[index] for row in rows]) for index in range(len(header))]
        pq.write_table(pa.table(columns, names=header, metadata=_classes_as_metadata(classes)), out)
    except (pa.ArrowException, OverflowError) as error:
        fix = "Write .jsonl instead, where a column may hold values of several kinds"
        raise DataError(f"the rows cannot be written as Parquet ({error})", file=file, fix=fix) from None
    return out.getvalue()


def _classes_as_metadata(classes: Mapping[str, Sequence[str]]) -> dict[bytes, bytes] | None:
    """What ``_classes_in`` reads."""
    if not classes:
        return None
    features = {column: {"names": list(names), "_type": "ClassLabel"} for column, names in classes.items()}
    return {b"huggingface": json.dumps({"info": {"features": features}}).encode()}


_READERS: dict[str, Callable[[str, bytes], Table]] = {
    ".csv": _separated(separated.read_csv),
    ".tsv": _separated(separated.read_tsv),
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".parquet": _read_parquet,
}
_WRITERS: dict[str, Callable[[list[str], list[Row]], bytes]] = {
    ".csv": lambda header, rows: separated.write_separated(header, rows, ",").encode("utf-8"),
    ".tsv": lambda header, rows: separated.write_separated(header, rows, "\t").encode("utf-8"),
    ".jsonl": _write_json_lines,
    ".ndjson": _write_json_lines,
}
