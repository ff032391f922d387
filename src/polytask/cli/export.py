"""``polytask export``: write an adapter in the format of another library, or as ONNX."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

import typer

from polytask.cli import console, options, wording
from polytask.cli.input_rows import columns_of
from polytask.cli.options import app, examples, print_json, spinner
from polytask.errors import PolytaskError

if TYPE_CHECKING:
    from polytask.adapters.store import Entry
    from polytask.data.task import Rows
    from polytask.interchange.exporting import Format
    from polytask.interchange.onnx import OnnxExport


@app.command(
    epilog=examples(
        "polytask export sentiment@2 sentiment-peft --to peft",
        "polytask export sentiment sentiment-merged --to merged",
        "polytask export sentiment sentiment.onnx --to onnx --int8 --test test.csv",
        "polytask export sentiment many.onnx --to onnx --also spam --also topic",
    )
)
def export(
    task: Annotated[str, typer.Argument(help="The adapter: sentiment, sentiment@2, sentiment@best, hub:OWNER/NAME.")],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="Folder to create; for onnx a file named ….onnx.")],
    to: Annotated[str, typer.Option(help="peft, adapterhub, merged (a plain checkpoint of transformers) or onnx.")],
    also: Annotated[
        list[str] | None, typer.Option(metavar="TASK", help="For onnx: another adapter in the same graph.")
    ] = None,
    int8: Annotated[bool, typer.Option("--int8", help="For onnx: quantize to 8 bits; needs --test.")] = False,
    test: Annotated[
        str | None, typer.Option(metavar="FILE", help="For onnx: texts with labels, to measure how much int8 loses.")
    ] = None,
    store: options.StoreFolder = "adapters",
    backbone: options.OfBackbone = None,
    as_json: options.AsJson = False,
) -> None:
    """Export an adapter to the files of another library, with a README that shows how to use them, or to ONNX."""
    from polytask.adapters.store import Store
    from polytask.interchange.exporting import export_adapter
    from polytask.interchange.onnx import export_onnx

    adapters = Store(store)
    if to != "onnx" and (also or int8 or test):
        raise PolytaskError("--also, --int8 and --test are for --to onnx")
    if to == "onnx":
        rows = None if test is None else labelled_rows(adapters.entry(task), test)
        given = [adapters.get(name) for name in (task, *(also or ()))]
        with spinner(f"exporting {task}"):
            show_onnx(export_onnx(given, target, backbone=backbone, int8=int8, rows=rows), task, as_json=as_json)
        return
    with spinner(f"exporting {task}"):
        folder = export_adapter(adapters.get(task), target, cast("Format", to), backbone=backbone)
    files = sorted(file.name for file in folder.iterdir())
    if as_json:
        print_json({"folder": str(folder), "to": to, "files": files})
    else:
        console.terminal().print(f"{task} is in {folder}: {', '.join(files)}. Its README.md shows how to use it")


def labelled_rows(entry: Entry, file: str) -> Rows:
    """The labelled rows of a file, by the columns that the adapter was trained on."""
    from polytask.data.read import rows_for, table_of

    head = entry.header.head
    table = table_of(file, head.kind)
    columns = columns_of([entry], table, text=None, text_pair=None, label=None)
    return rows_for(head.labels, head.kind, table, **columns, drop_empty=False)


def show_onnx(done: OnnxExport, task: str, *, as_json: bool) -> None:
    """Print what was written, and the scores of fp32 and int8."""
    if as_json:
        own = {"file": str(done.path), "tokenizer": str(done.tokenizer), "bytes": done.size_bytes}
        print_json({**own, "metric": done.metric, "scores": done.scores})
        return
    size = wording.bytes_in_words(done.size_bytes)
    console.terminal().print(f"{task} is in {done.path} ({size}), its tokenizer in {done.tokenizer}")
    for name, value in (done.scores or {}).items():
        console.terminal().print(f"{done.metric} with {name}: {value:.4f}")
