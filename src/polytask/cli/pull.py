"""``polytask pull``: download an adapter from the Hugging Face hub."""

from __future__ import annotations

from typing import Annotated

import typer

from polytask.cli import console, options
from polytask.cli.options import app, examples, print_json, spinner


@app.command(epilog=examples("polytask pull OWNER/sentiment", "polytask pull OWNER/sentiment@v2 --task mood"))
def pull(
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME[@REVISION]", help="Repository on the hub.")],
    task: Annotated[str | None, typer.Option(help="Name of the task here (default: the name in the file).")] = None,
    store: options.StoreFolder = "adapters",
    as_json: options.AsJson = False,
) -> None:
    """Download an adapter from the Hugging Face hub into the store. It is checked like any other file."""
    from polytask.adapters.store import Store
    from polytask.interchange.hub import pull as pull_

    with spinner(f"pulling {repository}"):
        entry = pull_(Store(store), repository, task=task)
    if as_json:
        print_json({"task": entry.task, "version": entry.version, "path": entry.path, "digest": entry.digest})
        return
    console.terminal().print(f"{entry} is in {store}: {entry.method.name}, on {entry.header.backbone.name}")
