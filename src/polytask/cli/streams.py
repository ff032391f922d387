"""Rows answered as they come: standard input, text files, and files longer than memory.

At most ``CHUNK_ROWS`` rows are held at a time. From a pipe whatever has come is answered at once, so that
``tail -f log.txt | polytask predict --task spam`` does not wait for more.
"""

from __future__ import annotations

import io
import itertools
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from polytask.cli import console, wording
from polytask.cli.answers import MAX_NAMED, check_inputs_of, texts_of
from polytask.cli.input_rows import check_inputs_in, columns_of
from polytask.cli.stream_output import check_stream_output, is_delimited, told, written
from polytask.errors import DataError, UnknownName

if TYPE_CHECKING:
    from polytask.adapters.store import Entry
    from polytask.data.table import Table
    from polytask.inference.prediction import Prediction

STDIN = "<stdin>"
T = TypeVar("T")


@dataclass
class Missing:
    """Rows without an answer: how many, and where the first of them are."""

    lines: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, place: str, reason: str) -> None:
        """Note a row."""
        self.count += 1
        if len(self.lines) < MAX_NAMED:
            self.lines.append(f"{place}: {reason}")

    def remarks(self) -> list[str]:
        """What to say of them."""
        more = self.count - len(self.lines)
        rest = [f"… and {wording.counted(more, 'more row')} without an answer"] if more else []
        return [*self.lines, *rest]


def is_streamed(file: str | None, texts: list[str] | None, output: str | None, *, as_json: bool) -> bool:
    """Whether rows are answered as they come.

    They are from a pipe, from lines of text, from a file whose answers are printed as JSON, and from CSV to CSV or TSV.
    """
    from polytask.data.row_stream import TEXT_LINES, can_stream

    if file is None:
        return not texts and sys.stdin is not None and not sys.stdin.isatty()
    name = file.lower()
    if file == "-" or name.endswith(TEXT_LINES):
        return True
    if as_json:
        return output is None and can_stream(file)
    return output is not None and is_delimited(output) and name.endswith((".csv", ".csv.gz"))


def check_format(format: str | None, file: str | None) -> None:
    """Refuse a format for what has one.

    Raises:
        UnknownName: there is no such format.
        DataError: it is not for standard input.
    """
    from polytask.data.row_stream import FORMATS

    if format is not None and format not in FORMATS:
        raise UnknownName("format of --format", format, FORMATS)
    if format is not None and file not in (None, "-"):
        raise DataError("--format is for standard input", fix="Leave it out; a file's name says its format")


def answer_stream(
    file: str | None,
    entries: Mapping[str, Entry],
    load: Callable[[], Callable[[Sequence[Any], str], list[Prediction]]],
    columns: Mapping[str, str | None],
    *,
    output: str | None,
    format: str | None,
    as_json: bool,
    drop_empty: bool,
    encoding: str | None,
    top_k: int | None,
) -> list[str]:
    """Print, or write to a file, the answers of each row; what is to be said of rows without an answer.

    ``load`` gives a function that answers texts with a task; it is called once there is a row that the tasks take.

    Raises:
        DataError: there is nothing to answer, or the rows cannot be read.
    """
    from polytask.data.read import read_rows
    from polytask.inference.inputs import problem_of

    check_stream_output(output)
    tables, share = opened(file, encoding, format or "txt")
    first = next(tables, None)
    if first is None:
        raise DataError("there are no texts", fix="Give texts, or a file with --file FILE")
    kind: Any = "span" if any(entry.header.head.kind == "span" for entry in entries.values()) else None
    chosen: dict[str, Any] = {**columns_of(list(entries.values()), first, **columns)}
    check_inputs_in(first, list(entries.values()), chosen)
    missing, count, predict = Missing(), 0, None
    how = read_rows(first, **chosen, kind=kind, keep_empty=True)
    with (
        written(output, None if as_json else format, entries, how, top_k) as write,
        progress(output, share) as advance,
    ):
        for table in itertools.chain([first], tables):
            source = read_rows(table, **chosen, kind=kind, keep_empty=True)
            texts = texts_of(source.rows)
            rows = [row for row, text in enumerate(texts) if not drop_empty or problem_of(text) is None]
            asked = [texts[row] for row in rows]
            check_inputs_of(entries, asked)
            predict = predict or load()
            answers = {task: predict(asked, task) for task in entries}
            write(source, rows, answers)
            for row, own in zip(rows, next(iter(answers.values()))):
                if own.error is not None:
                    missing.add(f"{table.file}:{table.lines[row]}", own.error)
            count += len(rows)
            advance(len(rows))
    if output is not None:
        told(output, count)
    return missing.remarks()


# -- in ---------------------------------------------------------------------------------------------------------------


def opened(file: str | None, encoding: str | None, format: str) -> tuple[Iterator[Table], Callable[[], float | None]]:
    """The rows of a file, or of standard input, a chunk at a time; and what share was read, if known."""
    from polytask.data.row_stream import CHUNK_ROWS, RowStream, checked, tables_of

    if file is not None and file != "-":
        rows = RowStream(file, encoding)
        return iter(rows), lambda: rows.share
    text = io.TextIOWrapper(standard_input(), encoding=encoding or "utf-8-sig", newline="")
    lines = checked(STDIN, text)
    return tables_of(format, STDIN, lines, lambda items: arriving(items, CHUNK_ROWS)), lambda: None


def standard_input() -> Any:
    """Its bytes; through a descriptor of its own, so that a thread that waits for more does not hold up the exit."""
    try:
        return os.fdopen(os.dup(sys.stdin.fileno()), "rb")
    except (OSError, ValueError):  # it is no file, as in tests
        return sys.stdin.buffer


def arriving(items: Iterable[T], most: int) -> Iterator[list[T]]:
    """What has come since this was last asked: at least one item, ``most`` at most. A thread reads ahead as many.

    Raises:
        Exception: what ``items`` raises, once what came before is given.
    """
    waiting: queue.Queue[tuple[bool, Any]] = queue.Queue(maxsize=most)

    def read() -> None:
        error: BaseException | None = None
        try:
            for item in items:
                waiting.put((True, item))
        except BaseException as raised:
            error = raised
        waiting.put((False, error))

    threading.Thread(target=read, daemon=True).start()
    is_open = True
    while is_open:
        is_open, item = waiting.get()
        chunk: list[T] = [item] if is_open else []
        while is_open and len(chunk) < most and not waiting.empty():
            is_open, item = waiting.get()
            chunk += [item] if is_open else []
        if chunk:
            yield chunk
    if item is not None:
        raise item


# -- progress ---------------------------------------------------------------------------------------------------------


@contextmanager
def progress(output: str | None, share: Callable[[], float | None]) -> Iterator[Callable[[int], None]]:
    """A bar on stderr, where that is a terminal that the answers do not go to."""
    out = console.terminal(stderr=True)
    if not out.is_terminal or (output is None and sys.stdout.isatty()):
        yield lambda _: None
        return
    with bar(out, share) as advance:
        yield advance


@contextmanager
def bar(out: Console, share: Callable[[], float | None]) -> Iterator[Callable[[int], None]]:
    """How many rows are answered, how fast, and how much of the file that is."""
    speed = TextColumn("{task.fields[rows]:,} rows, {task.fields[speed]:,.0f} a second")
    columns = (TextColumn("answering", style="bold"), BarColumn(bar_width=20), TaskProgressColumn(), speed)
    with Progress(*columns, TimeRemainingColumn(compact=True), console=out, transient=True) as shown:
        row = shown.add_task("", total=None, rows=0, speed=0.0)

        def advance(count: int) -> None:
            task, done = shown.tasks[row], share()
            rows = task.fields["rows"] + count
            speed = rows / max(task.elapsed or 0.0, 1e-9)
            shown.update(row, rows=rows, speed=speed, total=None if done is None else 1.0, completed=done)

        yield advance
