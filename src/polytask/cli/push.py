"""``polytask push``: upload an adapter to the Hugging Face hub."""

from __future__ import annotations

from typing import Annotated

import typer

from polytask.cli import console, options, wording
from polytask.cli.options import app, examples, print_json, spinner


@app.command(
    epilog=examples("polytask push sentiment@2 OWNER/sentiment", "polytask push sentiment OWNER/sentiment --dry-run")
)
def push(
    task: Annotated[str, typer.Argument(help="The adapter: sentiment, sentiment@2, sentiment@best.")],
    repository: Annotated[
        str, typer.Argument(metavar="OWNER/NAME", help="Repository on the hub; created if it does not exist.")
    ],
    public: Annotated[bool, typer.Option("--public", help="Make the repository public (default: private).")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, upload nothing.")] = False,
    store: options.StoreFolder = "adapters",
    as_json: options.AsJson = False,
) -> None:
    """Upload an adapter with its card to the Hugging Face hub. The token comes from hf auth login or HF_TOKEN."""
    from polytask.adapters.store import Store
    from polytask.cli.card import markdown
    from polytask.interchange.hub import push as push_

    adapters = Store(store)
    entry = adapters.entry(task)
    with spinner(f"pushing {entry}"):
        done = push_(
            adapters, str(entry), repository, card=markdown(entry, repository), private=not public, dry_run=dry_run
        )
    if as_json:
        own = {"repository": done.repository, "files": done.files, "private": done.private}
        print_json({**own, "commit": done.commit, "dry_run": dry_run})
        return
    files = ", ".join(f"{name} ({wording.bytes_in_words(size)})" for name, size in done.files.items())
    who = "private" if done.private else "public"
    said = f"would be pushed to {repository}, {who}" if dry_run else f"is in {repository}, {who}, commit {done.commit}"
    console.terminal().print(f"{entry} {said}: {files}")
