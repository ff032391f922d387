"""``polytask remove``: delete a version of an adapter."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from polytask.cli import console, options
from polytask.cli.options import app, examples, print_json
from polytask.errors import StoreError


@app.command(epilog=examples("polytask remove spam@2", "polytask remove spam --yes"))
def remove(
    name: Annotated[str, typer.Argument(help="A version (spam@2), or a task with all of its versions (spam).")],
    store: options.StoreFolder = "adapters",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove several versions without asking.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Remove an adapter from the store. Its version number is never used again; no other adapter changes."""
    from polytask.adapters.store import Store

    adapters = Store(store)
    removed = [str(adapters.entry(name))] if "@" in name else [f"{name}@{n}" for n in adapters.versions(name)]
    if len(removed) > 1 and not yes:
        if not sys.stdin.isatty():
            raise StoreError(f"{name} has {len(removed)} versions. Remove all with --yes, or one: {removed[-1]}")
        typer.confirm(f"Remove {', '.join(removed)}?", abort=True, err=True)
    adapters.remove(name)
    if as_json:
        print_json({"removed": removed})
    else:
        console.terminal().print(f"removed {', '.join(removed)} from {store}")
