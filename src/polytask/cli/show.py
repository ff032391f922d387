"""``polytask show``: print an adapter's card."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from polytask.cli import console, options, wording
from polytask.cli.options import app, examples, print_json
from polytask.errors import PolytaskError


@app.command(epilog=examples("polytask show sentiment", "polytask show sentiment@best --card > README.md"))
def show(
    name: Annotated[str, typer.Argument(help="An adapter: sentiment, sentiment@2, sentiment@best, hub:OWNER/NAME.")],
    as_card: Annotated[bool, typer.Option("--card", help="Print the card as Markdown, for a model page.")] = False,
    store: options.StoreFolder = "adapters",
    as_json: options.AsJson = False,
) -> None:
    """Show an adapter's card: data, labels, recipe, scores with their intervals, versions, backbone."""
    from polytask.adapters.store import Store
    from polytask.cli.card import facts, label_counts, markdown

    if as_card and as_json:
        raise PolytaskError("--card prints Markdown and --json prints JSON: ask for one of them")
    entry = Store(store).entry(name)
    if as_card:
        typer.echo(markdown(entry, entry.origin and entry.origin.removeprefix("hub:").partition("@")[0]))
        return
    if as_json:
        own = {
            "task": entry.task,
            "version": entry.version or None,
            "origin": entry.origin,
            "aliases": list(entry.aliases),
        }
        print_json({**own, "path": entry.path, "bytes": entry.size_bytes, **entry.header.to_object()})
        return
    out = console.terminal()
    if entry.labels:
        table = console.grid("label", "training rows", right=("training rows",))
        for label, rows in label_counts(entry).items():
            table.add_row(Text(wording.shortened(label, 60)), "" if rows is None else f"{rows:,}")
        out.print(table)
    alias = "".join(f" ({alias})" for alias in entry.aliases)
    out.print(console.panel(f"{entry}{alias}", [(what, Text(value)) for what, value in facts(entry)]))
