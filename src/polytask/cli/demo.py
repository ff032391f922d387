"""``polytask demo``: three real tasks on one frozen backbone."""

from __future__ import annotations

from typing import Annotated

import typer

from polytask.cli import console, options
from polytask.cli.options import app, examples


@app.command(epilog=examples("polytask demo", "polytask demo --store somewhere/else"))
def demo(
    store: options.StoreFolder = "demo-adapters",
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    seed: Annotated[int, typer.Option(help="Random seed of the rows and the initial weights.")] = 0,
) -> None:
    """Train three real tasks on one frozen backbone and check that none changes another. Takes a few minutes."""
    from polytask.cli.demo_run import run_demo

    run_demo(console.terminal(), console.terminal(stderr=True), store=store, device=device, dtype=dtype, seed=seed)
