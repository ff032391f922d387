"""``polytask promote``: an alias moves to a new version only where a test allows it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polytask.cli import console, options, result_tables
from polytask.cli.compare import answers_of_both, check_comparable, labels_to_tell
from polytask.cli.input_rows import label_of_examples, rows_to_score
from polytask.cli.option_groups import ColumnOptions
from polytask.cli.options import USER_ERROR, app, error_exit, examples, print_json
from polytask.errors import NoSuchAdapter, PolytaskError, UnknownName
from polytask.evaluation.gate import Gate, Verdict

if TYPE_CHECKING:
    from rich.console import RenderableType

    from polytask.adapters.store import Entry, Store

RULES = ("not-worse", "better")


@app.command(
    epilog=examples(
        "polytask promote spam@3 --to prod --on test.csv",
        "polytask promote spam@3 --to prod --on test.csv --if better --dry-run",
    )
)
def promote(
    name: Annotated[str, typer.Argument(help="The version that is to answer from now on: spam@3.")],
    to: Annotated[str, typer.Option("--to", help="The alias that is to point to it.")],
    on: Annotated[str, typer.Option("--on", metavar="FILE", help="Rows with labels that neither was trained on.")],
    rule: Annotated[str, typer.Option("--if", metavar="not-worse|better", help="What the test must show.")] = (
        "not-worse"
    ),
    margin: Annotated[float, typer.Option(help="With not-worse: by how much it may be worse, in points of 100.")] = 0.5,
    metric: Annotated[str | None, typer.Option(help="The one it was trained by unless given.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be decided.")] = False,
    text: options.TextColumn = None,
    text_pair: options.PairColumn = None,
    label: options.LabelColumn = None,
    none_label: options.NoneLabel = None,
    store: options.StoreFolder = "adapters",
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Let an alias point to another version, if it answers no worse than the one that it points to now.

    Both answer the same rows, which are drawn anew 1,000 times (a paired bootstrap, as in compare). What decided is
    written into the store. Where the alias is new, there is nothing to compare with, and it is set. Rows of
    --none-label count as in compare.
    """
    from polytask.adapters.promotions import record_decision
    from polytask.adapters.store import Store

    if rule not in RULES:
        raise UnknownName("rule of --if", rule, RULES)
    adapters = Store(store)
    entry, gate = adapters.entry(name), Gate(rule, margin / 100)
    before = pointed_to(adapters, entry.task, to)
    check_new(before, entry, to)
    said: dict[str, Any] = {"rule": rule, "margin": margin, "on": Path(on).name}
    verdict = None
    columns: dict[str, Any] = {"text": text, "text_pair": text_pair, "label": label}
    if before is None:
        rows_to_score([entry], on, ColumnOptions(**columns), label_of_examples([entry], none_label))
    else:
        verdict = judged(gate, adapters, (before, entry), on, columns, none_label, metric, (device, dtype))
        said |= asdict(verdict)
    is_allowed = verdict is None or verdict.is_allowed
    if not dry_run:
        record_decision(
            adapters, entry.task, to, None if before is None else before.version, entry.version, said, moves=is_allowed
        )
    if as_json:
        named = {
            "task": entry.task,
            "alias": to,
            "version": entry.version,
            "before": None if before is None else before.version,
        }
        print_json({**named, **said, "is_allowed": is_allowed, "moved": is_allowed and not dry_run})
    else:
        show(entry, to, before, verdict, is_dry=dry_run)
    if not is_allowed:
        raise error_exit(f"{entry.task}@{to} stays {before}: {verdict.why if verdict else ''}", USER_ERROR)


def check_new(before: Entry | None, entry: Entry, alias: str) -> None:
    """Refuse to promote what the alias points to.

    Raises:
        PolytaskError: it does.
    """
    if before is not None and before.version == entry.version:
        raise PolytaskError(f"{entry.task}@{alias} is {entry} already. Name another version")


def pointed_to(adapters: Store, task: str, alias: str) -> Entry | None:
    """The version that an alias points to; None where there is no such alias."""
    try:
        return adapters.entry(f"{task}@{alias}")
    except NoSuchAdapter:
        return None


def judged(
    gate: Gate,
    adapters: Store,
    entries: tuple[Entry, Entry],
    file: str,
    columns: dict[str, Any],
    none_label: str | None,
    metric: str | None,
    where: tuple[str, str],
) -> Verdict:
    """What the gate says of two versions on labelled rows."""
    from polytask.data.metric_names import check_metric

    check_comparable(*entries)
    head, name = entries[0].header.head, metric or entries[1].metric
    check_metric(name, head.kind)
    rows = rows_to_score(entries, file, ColumnOptions(**columns), label_of_examples(entries, none_label))
    assert rows.targets is not None, "labelled rows have targets"
    num_labels = labels_to_tell(entries[0], rows, name)
    answers = answers_of_both(adapters, entries, rows, *where)
    return gate.judge(name, head.kind, rows.targets, *answers, num_labels=num_labels)


def show(entry: Entry, alias: str, before: Entry | None, verdict: Verdict | None, *, is_dry: bool) -> None:
    """What was decided, and by what."""
    out = console.terminal()
    if verdict is not None:
        scores = [(str(before), verdict.score_before), (str(entry), verdict.score)]
        rows: list[tuple[str, RenderableType]] = [
            (of, result_tables.scored(verdict.metric, value, verdict.rows)) for of, value in scores
        ]
        difference = f"{verdict.difference:+.4f}  ({verdict.low:+.4f} to {verdict.high:+.4f})"
        out.print(console.panel(f"{entry.task}@{alias}", [*rows, ("difference", difference), ("because", verdict.why)]))
    if verdict is None or verdict.is_allowed:
        out.print(f"{entry.task}@{alias} {'would be' if is_dry else 'is'} {entry} from now on")
