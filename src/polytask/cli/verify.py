"""``polytask verify``: check every file of a store."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from polytask.cli import console, options, wording
from polytask.cli.options import USER_ERROR, app, examples, load_backbone, print_json


@app.command(epilog=examples("polytask verify", "polytask verify --store team/adapters --backbone minilm"))
def verify(
    store: options.StoreFolder = "adapters",
    backbone: Annotated[str | None, typer.Option(help="Also report adapters of any other backbone.")] = None,
    as_json: options.AsJson = False,
) -> None:
    """Read every file of a store completely and report every problem. The exit code is 2 if there is one."""
    from polytask.adapters.store import Store

    adapters = Store(store)
    identity = None if backbone is None else load_backbone(backbone, "cpu", "float32")
    problems = adapters.verify(identity)
    if as_json:
        print_json([{"path": problem.path, "problem": problem.problem} for problem in problems])
    elif problems:
        out = console.terminal()
        for problem in problems:
            out.print(Text.assemble((problem.path, "bold"), f": {problem.problem}"), soft_wrap=True)
    else:
        count = sum(len(adapters.versions(task)) for task in adapters.tasks())
        console.terminal().print(f"{wording.counted(count, 'adapter')} in {store}: no problems")
    if problems:
        raise typer.Exit(USER_ERROR)
