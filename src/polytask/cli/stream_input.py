"""Reads the rows of ``polytask predict`` as a stream: from a file, or from standard input as they arrive."""

from __future__ import annotations

import io
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from polytask.data.table import Table

STDIN = "<stdin>"
T = TypeVar("T")


def open_stream(
    file: str | None, encoding: str | None, format: str
) -> tuple[Iterator[Table], Callable[[], float | None]]:
    """Open a file, or standard input, as a stream of tables.

    Args:
        file: a path; None or ``-`` for standard input.
        encoding: the encoding (default: UTF-8).
        format: the format of standard input, one of ``row_stream.FORMATS``.

    Returns:
        Tables of at most ``CHUNK_ROWS`` rows, and a function that gives the fraction that has been read, None if it is
        unknown.
    """
    from polytask.data.row_stream import CHUNK_ROWS, RowStream, checked_lines, tables_of

    if file is not None and file != "-":
        rows = RowStream(file, encoding)
        return iter(rows), lambda: rows.share
    text = io.TextIOWrapper(standard_input(), encoding=encoding or "utf-8-sig", newline="")
    lines = checked_lines(STDIN, text)
    return tables_of(format, STDIN, lines, lambda items: chunks_as_they_arrive(items, CHUNK_ROWS)), lambda: None


def standard_input() -> Any:
    """Standard input as bytes. A duplicate descriptor, so that a thread waiting for input does not delay exit."""
    try:
        return os.fdopen(os.dup(sys.stdin.fileno()), "rb")
    except (OSError, ValueError):  # not a real file, as in tests
        return sys.stdin.buffer


def chunks_as_they_arrive(items: Iterable[T], most: int) -> Iterator[list[T]]:
    """Yield the items that have arrived since the last chunk: at least one, at most ``most``.

    A thread reads up to ``most`` items ahead.

    Raises:
        Exception: any error of ``items``, after the items before it were yielded.
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
