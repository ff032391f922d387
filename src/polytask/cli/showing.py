"""``polytask tasks``, ``remove`` and ``demo``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polytask import screen
from polytask.cli import options
from polytask.cli.options import THEIRS, app, emit, examples, refused
from polytask.errors import StoreError

if TYPE_CHECKING:
    from polytask.store import Entry


@app.command(epilog=examples("polytask tasks", "polytask tasks --store team/adapters --verify"))
def tasks(
    store: options.StoreFolder = "adapters",
    verify: Annotated[bool, typer.Option("--verify", help="Read every file to its last byte.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """List the adapters of a store."""
    from polytask.store import Store

    adapters = Store(store)
    found = adapters.list()
    problems = adapters.verify() if verify else []
    if as_json:
        emit([described(entry) for entry in found])
    elif found:
        screen.terminal().print(screen.entries(found))
    else:
        where = "" if store == "adapters" else f" --store {store}"
        is_there = "://" in store or Path(store).is_dir()
        missing = (
            f"There is no adapter in {store} yet." if is_there else f"There is no folder {store}, so no adapter yet."
        )
        screen.terminal().print(missing, soft_wrap=True)
        screen.hint(screen.terminal(), f"polytask train your.csv --task NAME{where}")
    if problems:
        raise refused("\n".join(map(str, problems)), THEIRS)
    unread = sum(len(adapters.versions(task)) for task in adapters.tasks()) - len(found)
    if unread:
        remark = f"{screen.counted(unread, 'file')} in {store} cannot be read; polytask tasks --verify says why"
        screen.notes(screen.terminal(stderr=True), [remark])


def described(entry: Entry) -> dict[str, Any]:
    """What ``tasks --json`` prints of an adapter."""
    header = entry.header.to_object()
    shown = ("head", "method", "backbone", "metric", "score", "created", "digest")
    own = {"task": entry.task, "version": entry.version, "aliases": list(entry.aliases)}
    return {**own, **{name: header[name] for name in shown}, "path": entry.path, "bytes": entry.size_bytes}


@app.command(epilog=examples("polytask remove spam@2", "polytask remove spam --yes"))
def remove(
    name: Annotated[str, typer.Argument(help="A version (spam@2), or a task with all of its versions (spam).")],
    store: options.StoreFolder = "adapters",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before several versions are removed.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Remove an adapter from the store. Its number is not used again; no other adapter changes."""
    from polytask.store import Store

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
        screen.terminal().print(f"removed {', '.join(doomed)} from {store}")


@app.command(epilog=examples("polytask demo", "polytask demo --store somewhere/else"))
def demo(
    store: options.StoreFolder = "demo-adapters",
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    seed: Annotated[int, typer.Option(help="Draws the rows and starts the weights.")] = 0,
) -> None:
    """Train three real tasks on one frozen backbone, and see that none changes another. Takes a few minutes."""
    from polytask.demo.show import run

    run(screen.terminal(), screen.terminal(stderr=True), store=store, device=device, dtype=dtype, seed=seed)
