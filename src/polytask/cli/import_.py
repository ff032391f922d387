"""``polytask import``: put an adapter of peft or adapter-hub into a store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

import typer

from polytask.cli import console, options
from polytask.cli.options import app, examples, print_json, spinner

if TYPE_CHECKING:
    from polytask.data.task import Kind


@app.command(
    name="import",
    epilog=examples(
        "polytask import my-peft-adapter --task sentiment --labels negative,positive",
        "polytask import OWNER/NAME@main --task spam --backbone bert-base-uncased",
    ),
)
def import_(
    source: Annotated[str, typer.Argument(help="A folder saved by peft or adapters, or OWNER/NAME on the hub.")],
    task: Annotated[str, typer.Option(help="Name of the task.")],
    labels: Annotated[
        str | None, typer.Option(metavar="A,B,…", help="Label names, in the order of the head's outputs.")
    ] = None,
    kind: Annotated[str | None, typer.Option(help="classification, multilabel or regression.")] = None,
    max_length: Annotated[int | None, typer.Option(help="Maximum tokens of a text (default: the backbone's).")] = None,
    backbone: Annotated[str | None, typer.Option(help="A hub id or a folder (default: what the files name).")] = None,
    store: options.StoreFolder = "adapters",
    as_json: options.AsJson = False,
) -> None:
    """Import an adapter that was saved by peft or adapters. It then works like any other adapter."""
    from polytask.adapters.store import Store
    from polytask.interchange.importing import import_adapter

    names = None if labels is None else [label.strip() for label in labels.split(",")]
    with spinner(f"importing {source}"):
        adapter = import_adapter(
            source,
            task,
            backbone=backbone,
            labels=names,
            kind=cast("Kind | None", kind),
            max_length=max_length,
            device="cpu",
            dtype="float32",
        )
        entry = Store(store).put(adapter)
    header = entry.header
    if as_json:
        own = {"task": entry.task, "version": entry.version, "path": entry.path}
        shape = {"labels": list(entry.labels), "pooling": header.pooling}
        print_json({**own, "method": header.to_object()["method"], **shape})
        return
    labelled = f" over {', '.join(entry.labels)}" if entry.labels else ""
    console.terminal().print(
        f"{entry} is in {store}: {header.method.name}, {header.head.kind}{labelled}, on {header.backbone.name}"
    )
    console.hint(console.terminal(), f"polytask eval your.csv --task {entry.task}    it has no score yet")
