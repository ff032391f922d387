"""``polytask verify``, ``gc`` and ``alias``: keeping a store in order."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from polytask import screen
from polytask.cli import options
from polytask.cli.options import THEIRS, app, emit, examples, loaded
from polytask.errors import StoreError


@app.command(epilog=examples("polytask verify", "polytask verify --store team/adapters --backbone minilm"))
def verify(
    store: options.StoreFolder = "adapters",
    backbone: Annotated[
        str | None, typer.Option(help="Also report adapters that were not trained on this backbone.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Read every file of a store to its last byte and report what is wrong; exit code 2 if anything is."""
    from polytask.store import Store

    adapters = Store(store)
    identity = None if backbone is None else loaded(backbone, "cpu", "float32")
    problems = adapters.verify(identity)
    if as_json:
        emit([{"path": problem.path, "problem": problem.problem} for problem in problems])
    elif problems:
        out = screen.terminal()
        for problem in problems:
            out.print(Text.assemble((problem.path, "bold"), f": {problem.problem}"), soft_wrap=True)
    else:
        count = sum(len(adapters.versions(task)) for task in adapters.tasks())
        screen.terminal().print(f"{screen.counted(count, 'adapter')} in {store}: nothing is wrong")
    if problems:
        raise typer.Exit(THEIRS)


@app.command(epilog=examples("polytask gc", "polytask gc --older-than 0"))
def gc(
    store: options.StoreFolder = "adapters",
    older_than: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="What is younger may belong to a writer at work.")
    ] = 3600.0,
    as_json: options.AsJson = False,
) -> None:
    """Remove what writers left in a store when they were killed, and nothing else."""
    from polytask.store import Store

    removed = Store(store).gc(older_than)
    if as_json:
        emit({"removed": removed})
    else:
        screen.terminal().print("\n".join(f"removed {path}" for path in removed) or f"nothing to remove in {store}")


@app.command(epilog=examples("polytask alias spam@3 prod", "polytask alias spam@prod --forget"))
def alias(
    name: Annotated[str, typer.Argument(help="An adapter: spam@3, spam@best, or spam for its latest version.")],
    alias: Annotated[str | None, typer.Argument(help="What it can be called from now on.", show_default=False)] = None,
    forget: Annotated[bool, typer.Option("--forget", help="Forget the alias that is named: spam@prod.")] = False,
    store: options.StoreFolder = "adapters",
    as_json: options.AsJson = False,
) -> None:
    """Give a version another name, such as spam@prod, that can point to another version later."""
    from polytask.store import Store

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
        emit({**said, "version": int(said["version"])} if "version" in said else said)
    elif alias is None:
        screen.terminal().print(f"{name} is forgotten; the version stays")
    else:
        screen.terminal().print(f"{said['task']}@{alias} is {said['task']}@{said['version']} from now on")
