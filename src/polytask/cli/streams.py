"""Rows answered as they come, one line of JSON each: standard input, text files, and files longer than memory.

At most ``CHUNK_ROWS`` rows are held at a time. From a pipe whatever has come is answered at once, so that
``tail -f log.txt | polytask predict --task spam`` does not wait for more.
"""

from __future__ import annotations

import io
import itertools
import json
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
from polytask.cli.options import print_json
from polytask.cli.output import check_folder
from polytask.cli.top_k import as_json_object
from polytask.errors import DataError

if TYPE_CHECKING:
    from polytask.adapters.store import Entry
    from polytask.data.table import Table
    from polytask.inference.prediction import Prediction

STDIN, JSON_LINES = "<stdin>", (".jsonl", ".ndjson")
T = TypeVar("T")
Write = Callable[[dict[str, Any]], None]


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
    """Whether rows are answered as they come: from a pipe, from lines of text, or from a file with answers as JSON."""
    from polytask.data.row_stream import TEXT_LINES, can_stream

    if file is None:
        return not texts and sys.stdin is not None and not sys.stdin.isatty()
    is_text = file == "-" or file.lower().endswith(TEXT_LINES)
    return is_text or (as_json and output is None and can_stream(file))


def answer_stream(
    file: str | None,
    entries: Mapping[str, Entry],
    load: Callable[[], Callable[[Sequence[Any], str], list[Prediction]]],
    columns: Mapping[str, str | None],
    *,
    output: str | None,
    drop_empty: bool,
    encoding: str | None,
    top_k: int | None,
) -> list[str]:
    """Print, or write to a file, a line of JSON for each row and task; what is to be said of rows without an answer.

    ``load`` gives a function that answers texts with a task; it is called once there is a row that the tasks take.

    Raises:
        DataError: there is nothing to answer, or the rows cannot be read.
    """
    from polytask.data.read import read_rows
    from polytask.inference.inputs import problem_of

    check_lines_out(output)
    tables, share = opened(file, encoding)
    first = next(tables, None)
    if first is None:
        raise DataError("there are no texts", fix="Give texts, or a file with --file FILE")
    kind: Any = "span" if any(entry.header.head.kind == "span" for entry in entries.values()) else None
    chosen: dict[str, Any] = {**columns_of(list(entries.values()), first, **columns)}
    check_inputs_in(first, list(entries.values()), chosen)
    missing, number = Missing(), itertools.count(1)
    with lines_out(output) as write, progress(output, share) as advance:
        predict = None
        for table in itertools.chain([first], tables):
            texts = texts_of(read_rows(table, **chosen, kind=kind, keep_empty=True).rows)
            rows = [row for row, text in enumerate(texts) if not drop_empty or problem_of(text) is None]
            asked = [texts[row] for row in rows]
            check_inputs_of(entries, asked)
            predict = predict or load()
            answers = {task: predict(asked, task) for task in entries}
            for at, row in enumerate(rows):
                where = {"row": next(number)}
                for column in answers.values():
                    write({**where, **as_json_object(column[at], top_k)})
                if (error := next(iter(answers.values()))[at].error) is not None:
                    missing.add(f"{table.file}:{table.lines[row]}", error)
            advance(len(rows))
    return missing.remarks()


# -- in ---------------------------------------------------------------------------------------------------------------


def opened(file: str | None, encoding: str | None) -> tuple[Iterator[Table], Callable[[], float | None]]:
    """The rows of a file, or of standard input, a chunk at a time; and what share was read, if known."""
    from polytask.data.row_stream import CHUNK_ROWS, RowStream, checked, text_tables

    if file is not None and file != "-":
        rows = RowStream(file, encoding)
        return iter(rows), lambda: rows.share
    text = io.TextIOWrapper(standard_input(), encoding=encoding or "utf-8-sig", newline="")
    lines = arriving(enumerate(checked(STDIN, text), start=1), CHUNK_ROWS)
    return text_tables(STDIN, lines), lambda: None


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


# -- out --------------------------------------------------------------------------------------------------------------


def check_lines_out(output: str | None) -> None:
    """Refuse, before any work is done, a file that is no JSON lines.

    Raises:
        DataError: with a name that would do.
    """
    check_folder(output)
    if output is not None and not output.lower().endswith(JSON_LINES):
        raise DataError("lines of text are answered in JSON lines", file=output, fix="Name it answers.jsonl, say")


@contextmanager
def lines_out(output: str | None) -> Iterator[Write]:
    """What writes a line of JSON to stdout at once, or to a file, which is there when all are."""
    from polytask.files import whole_file

    if output is None:
        yield print_json
        return
    with whole_file(output) as part, part.open("w", encoding="utf-8", newline="\n") as lines:
        yield lambda value: print(json.dumps(value, ensure_ascii=False, allow_nan=False), file=lines)


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
