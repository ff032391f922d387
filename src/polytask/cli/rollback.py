"""``polytask rollback``: move an alias back to the version before its last promotion."""

from __future__ import annotations

from typing import Annotated

import typer

from polytask.cli import console, options
from polytask.cli.options import app, examples, print_json


@app.command(epilog=examples("polytask rollback spam", "polytask rollback spam --alias canary"))
def rollback(
    task: Annotated[str, typer.Argument(help="The task.")],
    alias: Annotated[str, typer.Option(help="The alias to move back.")] = "prod",
    store: options.StoreFolder = "adapters",
    as_json: options.AsJson = False,
) -> None:
    """Move an alias back to the version that it pointed to before its last promotion."""
    from polytask.adapters.promotions import roll_back
    from polytask.adapters.store import Store

    back, left = roll_back(Store(store), task, alias)
    if as_json:
        print_json({"task": task, "alias": alias, "version": back, "before": left})
        return
    console.terminal().print(f"{task}@{alias} points to {task}@{back} again, no longer to {task}@{left}")
