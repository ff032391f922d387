"""``polytask train``: a file of texts and labels becomes an adapter in a store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from polytask import screen
from polytask.cli import options
from polytask.cli.methods import method_of
from polytask.cli.options import app, emit, examples, loaded

if TYPE_CHECKING:
    from polytask.adapter import Adapter
    from polytask.store import Entry
    from polytask.train.result import Result


@app.command(
    epilog=examples(
        "polytask train reviews.csv --task sentiment",
        "polytask train pairs.tsv --task rte --text premise --text-pair hypothesis --metric f1 --size 128",
    )
)
def train(
    file: Annotated[str, typer.Argument(help="Rows to train on: CSV, TSV, JSON lines (also .gz) or Parquet.")],
    task: Annotated[str | None, typer.Option(help="The task's name; the file's name unless given.")] = None,
    backbone: Annotated[str, typer.Option(help="A hub id, a folder, or minilm.")] = "minilm",
    method: options.MethodName = "houlsby",
    size: options.Size = None,
    setting: options.Settings = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the rows; chosen by their number.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate; the method's own unless given.")] = None,
    batch_size: Annotated[int, typer.Option(help="Rows a step.")] = 32,
    max_length: Annotated[int, typer.Option(help="Tokens of a text; the rest is cut.")] = 256,
    seed: Annotated[int, typer.Option(help="Same seed, same adapter.")] = 0,
    class_weights: Annotated[str | None, typer.Option(help="'balanced' for labels of unequal frequency.")] = None,
    validation: Annotated[str | None, typer.Option(metavar="FILE", help="Unless given, a tenth is held out.")] = None,
    test: Annotated[str | None, typer.Option(metavar="FILE", help="Rows to report on, once, at the end.")] = None,
    text: options.TextColumn = None,
    text_pair: options.PairColumn = None,
    label: options.LabelColumn = None,
    kind: Annotated[str | None, typer.Option(help="classification, multilabel or regression.")] = None,
    metric: Annotated[str | None, typer.Option(help="accuracy, f1, matthews, micro_f1, macro_f1, pearson, …")] = None,
    drop_empty: options.DropEmpty = False,
    store: options.StoreFolder = "adapters",
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Train an adapter on a file of texts and labels, and put it in the store as a new version."""
    from polytask.store import Store
    from polytask.tasks.baselines import majority_score
    from polytask.tasks.files import read_task
    from polytask.train.loop import train as train_adapter
    from polytask.train.recipe import Recipe

    err = screen.terminal(stderr=True)
    recipe = Recipe(
        method_of(method, size, setting),
        lr=lr,
        epochs=epochs,
        batch_size=batch_size,
        max_length=max_length,
        seed=seed,
        class_weights=class_weights,
    )
    adapters = Store(store)
    data = read_task(
        file,
        name=task,
        text=text,
        text_pair=text_pair,
        label=label,
        validation=validation,
        test=test,
        kind=kind,  # type: ignore[arg-type]
        metric=metric,
        seed=seed,
        drop_empty=drop_empty,
    )
    screen.notes(err, data.notes)
    frozen = loaded(backbone, device, dtype)
    with screen.watching(err) as progress:
        adapter, result = train_adapter(frozen, data, recipe, progress=progress)
    entry = adapters.put(adapter)
    if as_json:
        emit(summary(entry, adapter, result))
        return
    majority = majority_score(data, data.test or data.validation)
    where = "" if store == "adapters" else f" --store {store}"
    second = "" if data.train.pairs is None else ' --pair "its second text"'
    out = screen.terminal()
    out.print(screen.trained(entry, result, majority))
    screen.hint(out, f'polytask predict --task {data.name}{where} "a text"{second}')


def summary(entry: Entry, adapter: Adapter, result: Result) -> dict[str, Any]:
    """What ``train --json`` prints."""
    scores = result.to_json()
    return {
        "task": entry.task,
        "method": result.method["name"],
        "adapter": {
            "path": entry.path,
            "version": entry.version,
            "digest": entry.digest,
            "tensor_digest": adapter.tensor_digest,
            "bytes": entry.size_bytes,
        },
        "parameters": result.parameters,
        "train": {**result.train, "truncated": result.truncated},
        "validation": scores["validation"],
        "test": scores["test"],
    }
