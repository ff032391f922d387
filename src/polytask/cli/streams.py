"""Answers a stream of rows: standard input, text files, and files larger than memory.

At most ``CHUNK_ROWS`` rows are held at a time. Rows from a pipe are answered as soon as they arrive, so
``tail -f log.txt | polytask predict --task spam`` does not wait for a full chunk.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from polytask.cli import console, wording
from polytask.cli.answers import MAX_NAMED
from polytask.cli.input_rows import check_inputs_in, check_inputs_of, columns_of, texts_of
from polytask.cli.stream_input import open_stream
from polytask.cli.stream_output import check_stream_output, is_delimited, open_answer_writer, print_row_count
from polytask.errors import DataError, UnknownName

if TYPE_CHECKING:
    from polytask.adapters.store import Entry
    from polytask.inference.prediction import Prediction


@dataclass
class Unanswered:
    """Rows without an answer: how many there are, and where the first ones are."""

    lines: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, place: str, reason: str) -> None:
        """Add a row."""
        self.count += 1
        if len(self.lines) < MAX_NAMED:
            self.lines.append(f"{place}: {reason}")

    def notes(self) -> list[str]:
        """One line for each of the first ``MAX_NAMED`` rows, and one with the number of other rows."""
        more = self.count - len(self.lines)
        rest = [f"… and {wording.counted(more, 'more row')} without an answer"] if more else []
        return [*self.lines, *rest]


def is_streamed(file: str | None, texts: list[str] | None, output: str | None, *, as_json: bool) -> bool:
    """Whether rows are answered as a stream.

    Streamed are a pipe, a file of text lines, a file whose answers are printed as JSON, and CSV to CSV or TSV.
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
    """Refuse ``--format`` together with a file: the format is known from the file's name.

    Raises:
        UnknownName: there is no such format.
        DataError: a file is given.
    """
    from polytask.data.row_stream import FORMATS

    if format is not None and format not in FORMATS:
        raise UnknownName("format of --format", format, FORMATS)
    if format is not None and file not in (None, "-"):
        raise DataError("--format is for standard input", fix="Omit it; the name of a file gives its format")


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
    abstaining: Collection[str] = (),
) -> list[str]:
    """Print the answers to each row, or write them to a file.

    Args:
        file: the file of rows; None or ``-`` for standard input.
        entries: the adapters, by the name of their column.
        load: loads the backbone and returns a function that answers texts with a task. It is called after the first
            rows have been checked.
        columns: the columns that the user named.
        output: the file of answers; None to print them.
        format: the format of standard input, and of printed answers.
        as_json: whether to print JSON lines.
        drop_empty: whether to skip rows without a text.
        encoding: the encoding of the rows.
        top_k: how many labels to show for each answer.
        abstaining: the tasks that may abstain.

    Returns:
        Notes on rows without an answer.

    Raises:
        DataError: there is nothing to answer, or the rows cannot be read.
    """
    from polytask.data.read import read_rows
    from polytask.inference.inputs import problem_of

    check_stream_output(output)
    tables, share = open_stream(file, encoding, format or "txt")
    first = next(tables, None)
    if first is None:
        raise DataError("there are no texts", fix="Give texts, or a file with --file FILE")
    kind: Any = "span" if any(entry.header.head.kind == "span" for entry in entries.values()) else None
    chosen: dict[str, Any] = {**columns_of(list(entries.values()), first, **columns)}
    check_inputs_in(first, list(entries.values()), chosen)
    unanswered, count, predict = Unanswered(), 0, None
    how = read_rows(first, **chosen, kind=kind, keep_empty=True)
    with (
        open_answer_writer(output, None if as_json else format, entries, how, top_k, abstaining) as write,
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
                    unanswered.add(f"{table.file}:{table.lines[row]}", own.error)
            count += len(rows)
            advance(len(rows))
    if output is not None:
        print_row_count(output, count)
    return unanswered.notes()


# -- progress ---------------------------------------------------------------------------------------------------------


@contextmanager
def progress(output: str | None, share: Callable[[], float | None]) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr, if that is a terminal and answers are not printed on it."""
    out = console.terminal(stderr=True)
    if not out.is_terminal or (output is None and sys.stdout.isatty()):
        yield lambda _: None
        return
    with bar(out, share) as advance:
        yield advance


@contextmanager
def bar(out: Console, share: Callable[[], float | None]) -> Iterator[Callable[[int], None]]:
    """A progress bar with the number of answered rows, the speed and the fraction of the file."""
    speed = TextColumn("{task.fields[rows]:,} rows, {task.fields[speed]:,.0f} per second")
    columns = (TextColumn("answering", style="bold"), BarColumn(bar_width=20), TaskProgressColumn(), speed)
    with Progress(*columns, TimeRemainingColumn(compact=True), console=out, transient=True) as shown:
        row = shown.add_task("", total=None, rows=0, speed=0.0)

        def advance(count: int) -> None:
            task, done = shown.tasks[row], share()
            rows = task.fields["rows"] + count
            speed = rows / max(task.elapsed or 0.0, 1e-9)
            shown.update(row, rows=rows, speed=speed, total=None if done is None else 1.0, completed=done)

        yield advance
