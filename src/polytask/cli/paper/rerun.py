"""``polytask paper rerun``: run one trial again and compare its scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from polytask.cli import console, options
from polytask.cli.options import emit, examples, working
from polytask.cli.paper.trials import again_table, trial_in_words

if TYPE_CHECKING:
    pass
from polytask.cli.paper.arguments import Data, Results, app


@app.command(epilog=examples("polytask paper rerun 3f0c9e52a1b47d68 --data DIR --out results"))
def rerun(
    key: Annotated[str, typer.Argument(metavar="KEY", help="Of an entry: its file is OUT/EDITION/KEY.json.")],
    edition: Annotated[
        str, typer.Option("--edition", metavar="NAME", help="Which of the folders under --out.")
    ] = "cpu",
    data: Data = None,
    out: Results = "results",
    as_json: options.AsJson = False,
) -> None:
    """Run one entry of the results again from its recipe alone, and compare the scores. The results stay as they are.

    Backbone, device, precision and rows are the entry's, and refused where they are no longer the same.
    """
    from polytask.paper.ledger import Ledger
    from polytask.paper.rerun import rerun_entry

    entry = Ledger(out, edition).read(key)
    err = console.terminal(stderr=True)
    err.print(trial_in_words(entry.trial), style="dim")
    with working("running it again"):
        other = rerun_entry(entry, data)
    splits = {"validation": (entry.validation, other.validation), "test": (entry.test, other.test)}
    scores = {name: [one and one.score for one in both] for name, both in splits.items()}
    is_equal = all(before == now for before, now in scores.values())
    if as_json:
        emit({"key": key, "trial": trial_in_words(entry.trial), **scores, "equal": is_equal})
        return
    console.terminal().print(again_table(splits))
    console.terminal().print("the same to the last digit" if is_equal else "not the same to the last digit")
