"""``polytask merge``: the weighted average of adapters as a new adapter."""

from __future__ import annotations

from typing import Annotated

import typer

from polytask.adapters.provenance import start_in_words
from polytask.cli import console, options
from polytask.cli.options import app, examples, print_json
from polytask.cli.sweep import numbers


@app.command(
    epilog=examples(
        "polytask merge reviews@2 tweets@1 --into sentiment",
        "polytask merge mnli rte --into entailment --weights 0.7,0.3 --head rte",
    )
)
def merge(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Adapters of one backbone, method and size.")],
    into: Annotated[str, typer.Option("--into", metavar="TASK", help="Name of the task of the new adapter.")],
    weights: Annotated[
        str | None, typer.Option(metavar="NUMBERS", help="The weight of each: 0.7,0.3 (default: all equal).")
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Take the head of this one (default: the average; labels must be equal)."),
    ] = None,
    store: options.StoreFolder = "adapters",
    as_json: options.AsJson = False,
) -> None:
    """Average the weights of adapters and store the result as a new adapter.

    This helps if they are near each other: of related tasks that started from the same adapter (train --start). The
    result has no score, thresholds or calibration yet.
    """
    from polytask.adapters.averaging import average_adapters
    from polytask.adapters.store import Store

    adapters = Store(store)
    entries = [adapters.entry(name) for name in names]
    own_head = None if head is None else str(adapters.entry(head))
    shares = numbers("--weights", weights, float, "0.7,0.3") or None
    own = [adapters.get(str(entry)) for entry in entries]
    merged = average_adapters(own, into, weights=shares, head=own_head, names=[str(entry) for entry in entries])
    entry = adapters.put(merged)
    start = entry.header.start or {}
    if as_json:
        print_json({"task": entry.task, "version": entry.version, "path": entry.path, "digest": entry.digest, **start})
        return
    console.terminal().print(f"{entry} is {start_in_words(start)}")
    console.hint(console.terminal(), f"polytask eval your.csv --task {entry.task}    it has no score yet")
