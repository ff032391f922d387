"""What a person sees: progress, panels, tables. Progress and remarks go to stderr, answers to stdout.

On a terminal a bar moves; in a log each epoch is one line.
"""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from io import TextIOWrapper
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from polytask.errors import printable

if TYPE_CHECKING:
    pass

WIDTH = 100
MOST_COLUMNS = 10
MOST = sys.maxsize
LONGEST_MAJORITY = 24
TOGETHER = {"grouped": ", its adapter computed in one product with other runs'"}
"""What a training says of its ``routing`` where it did not run on its own."""


def encode(stream: TextIOWrapper) -> None:
    """Let a stream take every character: a terminal shows a question mark for what it cannot, a file loses nothing.

    Where the locale is C, files and pipes get UTF-8, unless ``PYTHONIOENCODING`` says what they are to get.
    """
    if stream.isatty() or os.environ.get("PYTHONIOENCODING"):
        stream.reconfigure(errors="replace")
    elif codecs.lookup(stream.encoding).name == "ascii":
        stream.reconfigure(encoding="utf-8")
    else:
        stream.reconfigure(errors="backslashreplace")


def broken_pipe() -> SystemExit:
    """The exit of a program whose reader has gone, as of ``yes | head -1``: silent, with 128 + SIGPIPE."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with suppress(OSError, ValueError):  # tests have streams that are no files
        os.dup2(nowhere, sys.stdout.fileno())
    return SystemExit(141)


class Terminal(Console):
    """A console that leaves it to ``main`` what becomes of a closed pipe."""

    def on_broken_pipe(self) -> None:
        """See ``broken_pipe``."""
        raise broken_pipe()


def terminal(*, stderr: bool = False) -> Console:
    """A console no wider than is pleasant to read; text is never taken for markup."""
    console = Terminal(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=False)
    console.width = min(console.width, WIDTH) if console.is_terminal else WIDTH
    return console


def notes(console: Console, remarks: Sequence[str]) -> None:
    """Remarks that a person should know of and that stop nothing."""
    for remark in remarks:
        console.print(Text.assemble(("note ", "yellow"), printable(remark)))


def refusal(console: Console, message: str) -> None:
    """One clear red line."""
    console.print(Text.assemble(("error ", "bold red"), (printable(message), "red")), soft_wrap=True)


def panel(title: str, rows: Sequence[tuple[str, RenderableType]]) -> Panel:
    """Named facts in a box."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for name, value in rows:
        table.add_row(name, value)
    return Panel(
        table, title=Text(printable(title), style="bold"), title_align="left", border_style="green", padding=(0, 1)
    )


def hint(console: Console, command: str) -> None:
    """The command to try next, never broken into two lines."""
    console.print(Text.assemble(("  next  ", "dim"), (command, "bold cyan")), soft_wrap=True)


def grid(*columns: str, right: Sequence[str] = (), title: str | None = None) -> Table:
    """An empty table in the style of all of them; the columns named in ``right`` hold numbers."""
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", title=title, title_justify="left", pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table
