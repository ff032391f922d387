"""The terminal: width, encoding, notes, errors, panels and tables."""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from io import TextIOWrapper

from rich import box
from rich.console import Console, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from polytask.errors import printable

WIDTH = 100
"""Characters per line at most."""


def encode(stream: TextIOWrapper) -> None:
    """Let a stream accept every character.

    A terminal shows a question mark for a character that it does not have; files and pipes get an escape, or UTF-8 if
    the locale is C. ``PYTHONIOENCODING`` overrides this.
    """
    if stream.isatty() or os.environ.get("PYTHONIOENCODING"):
        stream.reconfigure(errors="replace")
    elif codecs.lookup(stream.encoding).name == "ascii":
        stream.reconfigure(encoding="utf-8")
    else:
        stream.reconfigure(errors="backslashreplace")


def broken_pipe() -> SystemExit:
    """The silent exit after the reader of stdout has gone, as in ``yes | head -1``: code 128 + SIGPIPE."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with suppress(OSError, ValueError):  # in tests stdout may not be a file
        os.dup2(nowhere, sys.stdout.fileno())
    return SystemExit(141)


class Terminal(Console):
    """A console that leaves the handling of a closed pipe to ``main``."""

    def on_broken_pipe(self) -> None:
        """Raise the exit of ``broken_pipe``."""
        raise broken_pipe()


def terminal(*, stderr: bool = False) -> Console:
    """A console of at most ``WIDTH`` characters; text is never interpreted as markup."""
    console = Terminal(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=False)
    console.width = min(console.width, WIDTH) if console.is_terminal else WIDTH
    return console


def notes(console: Console, remarks: Sequence[str]) -> None:
    """Print remarks that do not stop the verb."""
    for remark in remarks:
        console.print(Text.assemble(("note ", "yellow"), printable(remark)))


def error(console: Console, message: str) -> None:
    """Print an error as one red line."""
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
    """Print the command to try next, on one line."""
    console.print(Text.assemble(("  next  ", "dim"), (command, "bold cyan")), soft_wrap=True)


def grid(*columns: str, right: Sequence[str] = (), title: str | None = None) -> Table:
    """An empty table in the common style; the columns named in ``right`` are right-aligned."""
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", title=title, title_justify="left", pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table
