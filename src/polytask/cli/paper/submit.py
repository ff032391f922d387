"""``polytask paper submit``: files for the GLUE server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from polytask.cli import console, options
from polytask.cli.options import emit, examples, loaded, working
from polytask.errors import DataError

if TYPE_CHECKING:
    pass
from polytask.cli.paper.arguments import BackboneName, Data, EditionName, Results, app
from polytask.cli.paper.requests import settled


@app.command(epilog=examples("polytask paper submit --data DIR --out results --to submission"))
def submit(
    edition: EditionName = "cpu",
    backbone: BackboneName = "minilm",
    data: Data = None,
    out: Results = "results",
    to: Annotated[
        str, typer.Option("--to", metavar="DIR", help="Where the server's files are written.")
    ] = "submission",
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Answer GLUE's test rows with the best adapters kept, in the form that the GLUE server takes."""
    from polytask.paper.ledger import Ledger
    from polytask.paper.submission import submit as write

    if data is None:
        raise DataError("the test rows are read from a folder", fix="Give --data DIR, which holds glue/")
    ledger = Ledger(out, edition)
    frozen = loaded(backbone, *settled(ledger, backbone, device, dtype))
    with working("answering GLUE's test rows"):
        written, missing = write(frozen, ledger, data, to)
    if as_json:
        emit({"folder": to, "written": written, "missing": missing})
        return
    said = f"{len(written)} tasks written to {to}" if written else "nothing was written"
    console.terminal().print(f"{said}: {', '.join(written)}" if written else said, soft_wrap=True)
    console.notes(console.terminal(stderr=True), [f"{name} is missing: {why}" for name, why in missing.items()])
