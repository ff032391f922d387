"""``polytask paper``: the paper's tables and figures."""

from __future__ import annotations

import typer

app = typer.Typer(
    name="paper", no_args_is_help=True, help="Reproduce Houlsby et al. (2019): run trials, draw exhibits."
)
