"""``polytask paper rerun``: run one trial again and compare its scores."""

from __future__ import annotations

from typing import Annotated

import typer

from polytask.cli import console, options
from polytask.cli.options import examples, print_json, spinner
from polytask.cli.paper.arguments import Data, ReportEdition, Results, app
from polytask.cli.paper.trials import rerun_table, trial_in_words


@app.command(epilog=examples("polytask paper rerun 3f0c9e52a1b47d68 --data DIR --out results"))
def rerun(
    key: Annotated[str, typer.Argument(metavar="KEY", help="Key of the trial: its file is OUT/EDITION/KEY.json.")],
    edition: ReportEdition = "cpu",
    data: Data = None,
    out: Results = "results",
    as_json: options.AsJson = False,
) -> None:
    """Run one trial again from its recipe alone and compare the scores. The results are not changed.

    Backbone, device, precision and rows must be those of the trial; anything else is refused.
    """
    from polytask.paper.ledger import Ledger
    from polytask.paper.rerun import rerun_entry

    entry = Ledger(out, edition).read(key)
    console.terminal(stderr=True).print(trial_in_words(entry.trial), style="dim")
    with spinner("running the trial again"):
        other = rerun_entry(entry, data)
    splits = {"validation": (entry.validation, other.validation), "test": (entry.test, other.test)}
    scores = {name: [one and one.score for one in both] for name, both in splits.items()}
    is_equal = all(before == now for before, now in scores.values())
    if as_json:
        print_json({"key": key, "trial": trial_in_words(entry.trial), **scores, "equal": is_equal})
        return
    console.terminal().print(rerun_table(splits))
    console.terminal().print("equal to the last digit" if is_equal else "not equal to the last digit")
