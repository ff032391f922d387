"""Writes a stream of answers: JSON lines, or CSV or TSV rows with the columns of the input."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from polytask.cli import console, wording
from polytask.cli.options import print_json
from polytask.cli.output import (
    cells_of,
    check_added,
    check_folder,
    check_output,
    endings_of,
    formula_notes,
    names_added,
    renaming_notes,
)
from polytask.cli.top_k import as_json_object
from polytask.errors import DataError

if TYPE_CHECKING:
    from polytask.adapters.store import Entry
    from polytask.data.read import FileRows
    from polytask.inference.prediction import Prediction

DELIMITERS = {"csv": ",", "tsv": "\t"}
JSON_LINES = (".jsonl", ".ndjson")
Write = Callable[["FileRows", Sequence[int], Mapping[str, Sequence["Prediction"]]], None]
"""Write the answers to some rows of a chunk; ``answers`` has one for each of these rows, by task."""


def is_delimited(output: str) -> bool:
    """Whether a file with this name is CSV or TSV."""
    return output.lower().endswith(tuple(f".{ending}" for ending in DELIMITERS))


def check_stream_output(output: str | None) -> None:
    """Refuse a format of output that cannot be streamed, before any work is done.

    Raises:
        DataError: the format cannot be streamed; the message has names that work.
    """
    check_folder(output)
    if output is not None and not is_delimited(output) and not output.lower().endswith(JSON_LINES):
        fix = "Name it answers.jsonl, answers.csv or answers.tsv"
        raise DataError("answers of a stream are written as JSON lines, CSV or TSV", file=output, fix=fix)


@contextmanager
def open_answer_writer(
    output: str | None,
    format: str | None,
    entries: Mapping[str, Entry],
    first: FileRows,
    top_k: int | None,
    abstaining: Collection[str] = (),
) -> Iterator[Write]:
    """Yield a function that writes answers to a file, which appears when it is complete, or to stdout.

    Args:
        output: the file; its suffix gives the format.
        format: the format on stdout: ``csv``, ``tsv``, or else JSON lines.
        entries: the adapters.
        first: the rows of the first chunk.
        top_k: how many labels have a probability in a JSON line.
        abstaining: the tasks that may abstain.

    Raises:
        DataError: the input has a column with the name of an added one.
    """
    from polytask.files import whole_file

    format = format if output is None else output.rpartition(".")[2].lower()
    if output is None:
        yield (
            _delimited_writer(sys.stdout, format, output, entries, first, abstaining)
            if format in DELIMITERS
            else _json_writer(print_json, top_k)
        )
        return
    if is_delimited(output):
        check_output(first.table.file, output, first, _kinds(entries), abstaining)
    with whole_file(output) as part, part.open("w", encoding="utf-8", newline="\n") as out:
        if is_delimited(output):
            yield _delimited_writer(out, format, output, entries, first, abstaining)
        else:
            yield _json_writer(
                lambda value: print(json.dumps(value, ensure_ascii=False, allow_nan=False), file=out), top_k
            )


def print_row_count(output: str, count: int) -> None:
    """Print the number of rows written to a file."""
    if is_delimited(output):
        console.terminal().print(f"{wording.counted(count, 'row')} written to {output}")


def _json_writer(print_line: Callable[[dict[str, Any]], None], top_k: int | None) -> Write:
    """Write a line of JSON for each row and task."""
    number = itertools.count(1)

    def write(source: FileRows, rows: Sequence[int], answers: Mapping[str, Sequence[Prediction]]) -> None:
        for at in range(len(rows)):
            where = {"row": next(number)}
            for column in answers.values():
                print_line({**where, **as_json_object(column[at], top_k)})

    return write


def _delimited_writer(
    out: TextIO,
    format: str | None,
    output: str | None,
    entries: Mapping[str, Entry],
    first: FileRows,
    abstaining: Collection[str],
) -> Write:
    """Write the columns of the input and of each task's answers; the header is written with the first rows."""
    from polytask.data.csv import format_delimited

    kinds = _kinds(entries)
    if output is None:
        check_added(first.table.file, first.table.file, first, kinds, abstaining)
    names = names_added(first, kinds)
    endings = {task: endings_of(kind, task in abstaining) for task, kind in kinds.items()}
    added = {task: [f"{names[task]}{ending}" for ending in own] for task, own in endings.items()}
    header: list[str] | None = [*first.table.header, *itertools.chain.from_iterable(added.values())]
    remarks = [*renaming_notes(names), *formula_notes(output or f"stdout.{format}", entries.values())]
    console.notes(console.terminal(stderr=True), remarks)

    def write(source: FileRows, rows: Sequence[int], answers: Mapping[str, Sequence[Prediction]]) -> None:
        nonlocal header
        own = {task: cells_of(names[task], column, task in abstaining) for task, column in answers.items() if rows}
        columns = [cells.get(name, [None] * len(rows)) for task, cells in own.items() for name in added[task]]
        whole = [[*source.table.rows[row], *cells] for row, *cells in zip(rows, *columns)]
        out.write(format_delimited(header, whole, DELIMITERS[format or "csv"]))
        out.flush()
        header = None

    return write


def _kinds(entries: Mapping[str, Entry]) -> dict[str, Any]:
    return {task: entry.header.head.kind for task, entry in entries.items()}
