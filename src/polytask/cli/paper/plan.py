"""``polytask paper plan``: what a run would do and what it would cost."""

from __future__ import annotations

from functools import partial
from typing import Any

from polytask.cli import console, options, wording
from polytask.cli.options import examples, print_json, spinner
from polytask.cli.paper.arguments import EditionOptions, app
from polytask.cli.paper.requests import Request, entries_here, fit_budget, group_costs, request_from, show_scope
from polytask.cli.paper.trials import part_table, plan_table


@app.command(epilog=examples("polytask paper plan --edition cpu --data DIR --exhibits table1,lr"))
def plan(given: EditionOptions, as_json: options.AsJson = False) -> None:
    """Show what a run would do and cost: trials, tokens, and the time, estimated from a few steps. Trains nothing."""
    show_plan(request_from(given), given.budget, as_json)


def show_plan(request: Request, budget: float | None, as_json: bool) -> None:
    """Print what would be run: one line per exhibit, and one per part if the edition has parts."""
    from polytask.paper.cost import correction
    from polytask.paper.edition import in_parts, trials
    from polytask.paper.run import missing

    request, cut = fit_budget(request, budget)
    left = missing(request.trials, request.ledger)
    with spinner("timing a few steps of every method"):
        costs = request.costs()
        costs.measure(request.trials.values())
        factor, num_done = correction(costs, entries_here(request))
        costed = partial(group_costs, costs=costs, left=left, factor=factor)
        plans = request.asked.plans
        exhibits = [
            {"exhibit": p.exhibit, "tasks": len(p.tasks), "settings": p.num_settings, "seeds": p.most_seeds, **own}
            for p, own in zip(plans, costed(request, [trials(request.asked, p.exhibit) for p in plans]))
        ]
        parts = in_parts(request.asked) if request.edition.parts else {}
        by_part = [{"part": name, **own} for name, own in zip(parts, costed(request, parts.values()))]
    total = {name: sum(row[name] for row in exhibits) for name in ("to_run", "tokens", "seconds")}
    total["seconds_range"] = [sum(row["seconds_range"][at] for row in exhibits) for at in (0, 1)]
    if as_json:
        about: dict[str, Any] = {"edition": request.edition.name, "caps": request.edition.caps(), "cut": cut}
        about |= {"corrected_by": factor, "trials_done": num_done}
        listed = {"exhibits": exhibits, "parts": by_part, "trials": len(request.trials)}
        print_json({**about, "absent": list(request.absent), **listed, **total})
        return
    err = console.terminal(stderr=True)
    show_scope(err, request, cut)
    if factor != 1:
        done = wording.counted(num_done, "finished trial")
        console.notes(err, [f"{done} took {factor:.1f} times as long as estimated; the times are corrected by that"])
    if by_part:
        console.terminal().print(part_table(by_part))
    console.terminal().print(plan_table(exhibits, total))
