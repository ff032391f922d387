"""``polytask push``: an adapter to the Hugging Face hub."""

from __future__ import annotations

from typing import Annotated

import typer

from polytask.cli import console, options, wording
from polytask.cli.options import app, emit, examples, working


@app.command(
    epilog=examples("polytask push sentiment@2 OWNER/sentiment", "polytask push sentiment OWNER/sentiment --dry-run")
)
def push(
    task: Annotated[str, typer.Argument(help="The adapter: sentiment, sentiment@2, sentiment@best.")],
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Made if it is not there.")],
    public: Annotated[bool, typer.Option("--public", help="Let everybody read it; private unless given.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and send nothing.")] = False,
    store: options.StoreFolder = "adapters",
    as_json: options.AsJson = False,
) -> None:
    """Push an adapter with its card to the Hugging Face hub. The token is that of hf auth login or HF_TOKEN."""
    from polytask.adapters.store import Store
    from polytask.cli.card import markdown
    from polytask.interchange.hub import push as push_

    adapters = Store(store)
    entry = adapters.entry(task)
    with working(f"pushing {entry}"):
        done = push_(adapters, str(entry), repository, card=markdown(entry), private=not public, dry_run=dry_run)
    if as_json:
        own = {"repository": done.repository, "files": done.files, "private": done.private}
        emit({**own, "commit": done.commit, "dry_run": dry_run})
        return
    files = ", ".join(f"{name} ({wording.bytes_in_words(size)})" for name, size in done.files.items())
    who = "private" if done.private else "public"
    said = f"would be pushed to {repository}, {who}" if dry_run else f"is in {repository}, {who}, commit {done.commit}"
    console.terminal().print(f"{entry} {said}: {files}")
