"""``polytask convert``: write a checkpoint in another format as a backbone."""

from __future__ import annotations

from typing import Annotated

import typer

from polytask.cli import console, options
from polytask.cli.options import app, examples, print_json


@app.command(
    epilog=examples(
        "polytask convert microsoft/deberta-v3-base backbones/deberta-v3-base",
        "polytask convert model-q8_0.gguf backbones/model",
    )
)
def convert(
    source: Annotated[str, typer.Argument(metavar="FOLDER_OR_ID", help="A folder, a hub id or a .gguf file.")],
    out: Annotated[str, typer.Argument(metavar="OUT", help="Folder to write; it must be new or empty.")],
    as_json: options.AsJson = False,
) -> None:
    """Convert a checkpoint in another format to a backbone: safetensors and a fast tokenizer."""
    from polytask.backbones.convert import convert as converted

    folder = converted(source, out)
    if as_json:
        print_json({"folder": str(folder)})
    else:
        console.terminal().print(f"wrote {folder}. Use it with --backbone {folder}", soft_wrap=True)
