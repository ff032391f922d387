"""``polytask export``: an adapter of the store as files of another library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

import typer

from polytask import screen
from polytask.cli import options
from polytask.cli.options import app, emit, examples, working

if TYPE_CHECKING:
    from polytask.interchange.exporting import Format


@app.command(
    epilog=examples(
        "polytask export sentiment@2 --to peft sentiment-peft",
        "polytask export sentiment --to merged sentiment-merged",
    )
)
def export(
    task: Annotated[str, typer.Argument(help="The adapter: sentiment, sentiment@2, sentiment@best.")],
    target: Annotated[str, typer.Argument(metavar="DIR", help="Where to write; it must not be there yet.")],
    to: Annotated[str, typer.Option(help="peft, adapterhub, or merged: a plain checkpoint of transformers.")],
    store: options.StoreFolder = "adapters",
    backbone: options.OfBackbone = None,
    as_json: options.AsJson = False,
) -> None:
    """Export an adapter to another library's files, with a README whose Python answers with them."""
    from polytask.interchange.exporting import export_adapter
    from polytask.store import Store

    adapter = Store(store).get(task)
    with working(f"exporting {task}"):
        folder = export_adapter(adapter, target, cast("Format", to), backbone=backbone)
    files = sorted(file.name for file in folder.iterdir())
    if as_json:
        emit({"folder": str(folder), "to": to, "files": files})
    else:
        screen.terminal().print(f"{task} is in {folder}: {', '.join(files)}. Its README.md says how to run it")
