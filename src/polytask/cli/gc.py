"""``polytask gc``: delete the temporary files of killed writers."""

from __future__ import annotations

from typing import Annotated

import typer

from polytask.cli import console, options
from polytask.cli.options import app, examples, print_json


@app.command(epilog=examples("polytask gc", "polytask gc --older-than 0"))
def gc(
    store: options.StoreFolder = "adapters",
    older_than: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", min=0, help="Keep files that are younger, because a running process may be using them."
        ),
    ] = 3600.0,
    as_json: options.AsJson = False,
) -> None:
    """Remove the temporary files and checkpoints that killed processes left in a store. Adapters are never removed."""
    from polytask.adapters.store import Store

    removed = Store(store).gc(older_than)
    if as_json:
        print_json({"removed": removed})
    else:
        console.terminal().print("\n".join(f"removed {path}" for path in removed) or f"nothing to remove in {store}")
