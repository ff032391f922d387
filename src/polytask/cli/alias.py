"""``polytask alias``: names for versions of an adapter."""

from __future__ import annotations

from typing import Annotated

import typer

from polytask.cli import console, options
from polytask.cli.options import app, examples, print_json
from polytask.errors import StoreError


@app.command(epilog=examples("polytask alias spam@3 prod", "polytask alias spam@prod --forget"))
def alias(
    name: Annotated[str, typer.Argument(help="An adapter: spam@3, spam@best, or spam for its latest version.")],
    alias: Annotated[str | None, typer.Argument(help="The new name of this version.", show_default=False)] = None,
    forget: Annotated[bool, typer.Option("--forget", help="Remove the alias: spam@prod.")] = False,
    store: options.StoreFolder = "adapters",
    as_json: options.AsJson = False,
) -> None:
    """Give a version another name, such as spam@prod, that can be moved to another version later."""
    from polytask.adapters.store import Store

    adapters = Store(store)
    if forget == (alias is not None):
        raise StoreError(
            "give a version and its alias (polytask alias spam@3 prod), or an alias to --forget (spam@prod)"
        )
    if alias is None:
        adapters.unalias(name)
        said = {"forgotten": name}
    else:
        adapters.alias(name, alias)
        entry = adapters.entry(f"{name.partition('@')[0]}@{alias}")
        said = {"task": entry.task, "alias": alias, "version": str(entry.version)}
    if as_json:
        print_json({**said, "version": int(said["version"])} if "version" in said else said)
    elif alias is None:
        console.terminal().print(f"{name} was removed; the version stays")
    else:
        console.terminal().print(f"{said['task']}@{alias} now means {said['task']}@{said['version']}")
