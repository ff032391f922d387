"""``polytask paper plan``: what a run would do and take."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from polytask.cli import console, options, wording
from polytask.cli.options import emit, examples, working
from polytask.cli.paper.trials import part_table, plan_table

if TYPE_CHECKING:
    pass
from polytask.cli.paper.arguments import (
    BackboneName,
    Budget,
    Data,
    EditionName,
    Epochs,
    Exhibits,
    MaxRows,
    Results,
    Seeds,
    Tasks,
    app,
)
from polytask.cli.paper.requests import Asked, Request, hardware, requested, say_what, shares, within


@app.command(epilog=examples("polytask paper plan --edition cpu --data DIR --exhibits table1,lr"))
def plan(
    edition: EditionName = "cpu",
    backbone: BackboneName = "minilm",
    data: Data = None,
    out: Results = "results",
    exhibits: Exhibits = None,
    tasks: Tasks = None,
    budget: Budget = None,
    max_rows: MaxRows = None,
    epochs: Epochs = None,
    seeds: Seeds = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Say what a run would do and take: trials, tokens, time from a short calibration. Nothing is trained."""
    asked = Asked(edition, backbone, data, out, exhibits, tasks, budget, max_rows, epochs, seeds, device, dtype)
    planned(requested(asked), budget, as_json)


def planned(request: Request, budget: float | None, as_json: bool) -> None:
    """Print what would be run: a part a line where the edition has parts, and an exhibit a line."""
    from polytask.paper.cost import correction
    from polytask.paper.edition import in_parts, trials
    from polytask.paper.run import missing

    request, cut = within(request, budget)
    left = missing(request.trials, request.ledger)
    with working("timing some steps of every method"):
        costs = request.costs()
        costs.measure(request.trials.values())
        of_here = [request.ledger.read(key) for key in request.trials if key not in left]
        factor, num_done = correction(costs, [e for e in of_here if e.environment["hardware"] == hardware(request)])
        costed = partial(shares, costs=costs, left=left, factor=factor)
        plans = request.asked.plans
        rows = [
            {
                "exhibit": one.exhibit,
                "tasks": len(one.tasks),
                "settings": one.num_settings,
                "seeds": one.most_seeds,
                **own,
            }
            for one, own in zip(plans, costed(request, [trials(request.asked, one.exhibit) for one in plans]))
        ]
        parts = in_parts(request.asked) if request.edition.parts else {}
        by_part = [{"part": name, **own} for name, own in zip(parts, costed(request, parts.values()))]
    total = {name: sum(row[name] for row in rows) for name in ("to_run", "tokens", "seconds")}
    total["seconds_range"] = [sum(row["seconds_range"][at] for row in rows) for at in (0, 1)]
    if as_json:
        about: dict[str, Any] = {"edition": request.edition.name, "caps": request.edition.caps(), "cut": cut}
        about |= {"corrected_by": factor, "trials_done": num_done}
        listed = {"exhibits": rows, "parts": by_part, "trials": len(request.trials)}
        emit({**about, "absent": list(request.absent), **listed, **total})
        return
    say_what(console.terminal(stderr=True), request, cut)
    if factor != 1:
        done = wording.counted(num_done, "trial")
        console.notes(
            console.terminal(stderr=True), [f"{done} done took {factor:.1f} times as long as timed now; so counted"]
        )
    if by_part:
        console.terminal().print(part_table(by_part))
    console.terminal().print(plan_table(rows, total))
