"""The command line: thin verbs over the Python API. Results go to stdout, everything else to stderr.

Torch and transformers are imported only when a verb needs them, so ``polytask --help`` is fast. A user error is one
red line and exit code 2; Ctrl-C is exit code 130.
"""

from __future__ import annotations

import sys
import warnings
from io import TextIOWrapper
from typing import TextIO

from polytask.cli import console
from polytask.cli.alias import alias
from polytask.cli.bench import bench
from polytask.cli.compare import compare
from polytask.cli.convert import convert
from polytask.cli.demo import demo
from polytask.cli.eval import evaluate
from polytask.cli.export import export
from polytask.cli.gc import gc
from polytask.cli.import_ import import_
from polytask.cli.inspect import inspect
from polytask.cli.merge import merge
from polytask.cli.multitask import multitask
from polytask.cli.options import Verbs, app, examples
from polytask.cli.paper import app as paper
from polytask.cli.predict import predict
from polytask.cli.promote import promote
from polytask.cli.pull import pull
from polytask.cli.push import push
from polytask.cli.remove import remove
from polytask.cli.report import report
from polytask.cli.rollback import rollback
from polytask.cli.serve import serve
from polytask.cli.show import show
from polytask.cli.sweep import sweep
from polytask.cli.tasks import tasks
from polytask.cli.train import train
from polytask.cli.verify import verify
from polytask.errors import PolytaskWarning

__all__ = [
    "Verbs",
    "alias",
    "app",
    "bench",
    "compare",
    "convert",
    "demo",
    "evaluate",
    "export",
    "gc",
    "import_",
    "inspect",
    "main",
    "merge",
    "multitask",
    "paper",
    "predict",
    "promote",
    "pull",
    "push",
    "remove",
    "report",
    "rollback",
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
    """Run the command line. Warnings become notes on stderr; a closed pipe ends it silently."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            console.encode(stream)
    warnings.showwarning = warning_as_note
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        raise console.broken_pipe() from None


def warning_as_note(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Replaces ``warnings.showwarning``: our own warnings become one line without file and line number."""
    if issubclass(category, PolytaskWarning):
        console.notes(console.terminal(stderr=True), [str(message)])
