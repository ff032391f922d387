"""``polytask verify``, ``gc`` and ``alias``: keeping a store in order."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from polytask.cli import console, options, wording
from polytask.cli.options import THEIRS, app, emit, examples, loaded


@app.command(epilog=examples("polytask verify", "polytask verify --store team/adapters --backbone minilm"))
def verify(
    store: options.StoreFolder = "adapters",
    backbone: Annotated[
        str | None, typer.Option(help="Also report adapters that were not trained on this backbone.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Read every file of a store to its last byte and report what is wrong; exit code 2 if anything is."""
    from polytask.adapters.store import Store

    adapters = Store(store)
    identity = None if backbone is None else loaded(backbone, "cpu", "float32")
    problems = adapters.verify(identity)
    if as_json:
        emit([{"path": problem.path, "problem": problem.problem} for problem in problems])
    elif problems:
        out = console.terminal()
        for problem in problems:
            out.print(Text.assemble((problem.path, "bold"), f": {problem.problem}"), soft_wrap=True)
    else:
        count = sum(len(adapters.versions(task)) for task in adapters.tasks())
        console.terminal().print(f"{wording.counted(count, 'adapter')} in {store}: nothing is wrong")
    if problems:
        raise typer.Exit(THEIRS)
