"""``polytask gc``: delete files that no adapter needs."""

from __future__ import annotations

from typing import Annotated

import typer

from polytask.cli import console, options
from polytask.cli.options import app, emit, examples


@app.command(epilog=examples("polytask gc", "polytask gc --older-than 0"))
def gc(
    store: options.StoreFolder = "adapters",
    older_than: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="What is younger may belong to a writer at work.")
    ] = 3600.0,
    as_json: options.AsJson = False,
) -> None:
    """Remove what writers left in a store when they were killed, and nothing else."""
    from polytask.adapters.store import Store

    removed = Store(store).gc(older_than)
    if as_json:
        emit({"removed": removed})
    else:
        console.terminal().print("\n".join(f"removed {path}" for path in removed) or f"nothing to remove in {store}")
