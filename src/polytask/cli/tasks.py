"""``polytask tasks``: list the adapters of a store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polytask.cli import console, options, result_tables, wording
from polytask.cli.options import USER_ERROR, app, error_exit, examples, print_json

if TYPE_CHECKING:
    from polytask.adapters.store import Entry


@app.command(epilog=examples("polytask tasks", "polytask tasks --store team/adapters --verify"))
def tasks(
    store: options.StoreFolder = "adapters",
    verify: Annotated[
        bool, typer.Option("--verify", help="Also read every file completely and report damage.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """List the adapters of a store."""
    from polytask.adapters.store import Store

    adapters = Store(store)
    found = adapters.list()
    problems = adapters.verify() if verify else []
    if as_json:
        print_json([entry_to_json(entry) for entry in found])
    elif found:
        console.terminal().print(result_tables.entries_table(found))
    else:
        where = "" if store == "adapters" else f" --store {store}"
        is_there = "://" in store or Path(store).is_dir()
        missing = f"There is no adapter in {store} yet." if is_there else f"There is no folder {store} yet."
        console.terminal().print(missing, soft_wrap=True)
        console.hint(console.terminal(), f"polytask train your.csv --task NAME{where}")
    if problems:
        raise error_exit("\n".join(map(str, problems)), USER_ERROR)
    unread = sum(len(adapters.versions(task)) for task in adapters.tasks()) - len(found)
    if unread:
        remark = f"{wording.counted(unread, 'file')} in {store} cannot be read; polytask tasks --verify says why"
        console.notes(console.terminal(stderr=True), [remark])


def entry_to_json(entry: Entry) -> dict[str, Any]:
    """What ``tasks --json`` prints about an adapter."""
    header = entry.header.to_object()
    shown = ("head", "method", "backbone", "metric", "score", "created", "digest")
    own = {"task": entry.task, "version": entry.version, "aliases": list(entry.aliases)}
    return {**own, **{name: header[name] for name in shown}, "path": entry.path, "bytes": entry.size_bytes}
