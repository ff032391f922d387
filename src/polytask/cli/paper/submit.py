"""``polytask paper submit``: files for the GLUE server."""

from __future__ import annotations

from typing import Annotated

import typer

from polytask.cli import console, options
from polytask.cli.options import examples, load_backbone, print_json, spinner
from polytask.cli.paper.arguments import BackboneName, Data, EditionName, Results, app
from polytask.cli.paper.requests import device_and_dtype
from polytask.errors import DataError


@app.command(epilog=examples("polytask paper submit --data DIR --out results --to submission"))
def submit(
    edition: EditionName = "cpu",
    backbone: BackboneName = "minilm",
    data: Data = None,
    out: Results = "results",
    to: Annotated[str, typer.Option("--to", metavar="DIR", help="Folder for the files to submit.")] = "submission",
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Predict GLUE's test rows with the best adapters kept, in the format of the GLUE server."""
    from polytask.paper.ledger import Ledger
    from polytask.paper.submission import submit as write

    if data is None:
        raise DataError("the test rows are read from a folder", fix="Give --data DIR, which holds glue/")
    ledger = Ledger(out, edition)
    frozen = load_backbone(backbone, *device_and_dtype(ledger, backbone, device, dtype))
    with spinner("predicting GLUE's test rows"):
        written, missing = write(frozen, ledger, data, to)
    if as_json:
        print_json({"folder": to, "written": written, "missing": missing})
        return
    said = f"{len(written)} tasks written to {to}: {', '.join(written)}" if written else "nothing was written"
    console.terminal().print(said, soft_wrap=True)
    console.notes(console.terminal(stderr=True), [f"{name} is missing: {why}" for name, why in missing.items()])
