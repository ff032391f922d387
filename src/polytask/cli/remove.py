"""``polytask remove``: delete a version of an adapter."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from polytask.cli import console, options
from polytask.cli.options import app, emit, examples
from polytask.errors import StoreError

if TYPE_CHECKING:
    pass


@app.command(epilog=examples("polytask remove spam@2", "polytask remove spam --yes"))
def remove(
    name: Annotated[str, typer.Argument(help="A version (spam@2), or a task with all of its versions (spam).")],
    store: options.StoreFolder = "adapters",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before several versions are removed.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Remove an adapter from the store. Its number is not used again; no other adapter changes."""
    from polytask.adapters.store import Store

    adapters = Store(store)
    doomed = [str(adapters.entry(name))] if "@" in name else [f"{name}@{n}" for n in adapters.versions(name)]
    if len(doomed) > 1 and not yes:
        if not sys.stdin.isatty():
            raise StoreError(f"{name} has {len(doomed)} versions. Remove all with --yes, or one: {doomed[-1]}")
        typer.confirm(f"Remove {', '.join(doomed)}?", abort=True, err=True)
    adapters.remove(name)
    if as_json:
        emit({"removed": doomed})
    else:
        console.terminal().print(f"removed {', '.join(doomed)} from {store}")
