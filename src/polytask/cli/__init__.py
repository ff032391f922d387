"""The command line: thin verbs over the Python API. Answers go to stdout, everything else to stderr.

Nothing heavy is imported until a verb needs it, so ``polytask --help`` is there at once. A user's mistake is one
red line and exit code 2; an interrupt is exit code 130.
"""

from __future__ import annotations

import sys
import warnings
from io import TextIOWrapper
from typing import TextIO

from polytask import screen
from polytask.cli import exhibits
from polytask.cli.answering import evaluate, predict
from polytask.cli.bench import bench
from polytask.cli.comparing import compare
from polytask.cli.keeping import alias, gc, verify
from polytask.cli.options import Verbs, app, examples
from polytask.cli.paper import app as paper
from polytask.cli.serve import serve
from polytask.cli.showing import demo, inspect, remove, tasks
from polytask.cli.sweeping import sweep
from polytask.cli.telling import show
from polytask.cli.training import train
from polytask.errors import PolytaskWarning

__all__ = [
    "Verbs",
    "alias",
    "app",
    "bench",
    "compare",
    "demo",
    "evaluate",
    "exhibits",
    "gc",
    "inspect",
    "main",
    "paper",
    "predict",
    "remove",
    "serve",
    "show",
    "sweep",
    "tasks",
    "train",
    "verify",
]

app.add_typer(
    paper,
    epilog=examples(
        "polytask paper all --edition cpu --backbone minilm --data DIR --out results",
        "polytask paper plan --edition cpu --data DIR",
        "polytask paper show table1",
    ),
)


def main() -> None:
    """Run the command line. A warning is a note on stderr; what a terminal cannot show is a question mark there."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    warnings.showwarning = shown_as_note
    app()


def shown_as_note(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """In place of ``warnings.showwarning``: our own warnings in one line, without the place in the code."""
    if issubclass(category, PolytaskWarning):
        screen.notes(screen.terminal(stderr=True), [str(message)])
