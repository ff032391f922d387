"""``polytask promote``: move an alias to a new version, only if a test allows it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polytask.cli import console, options, result_tables
from polytask.cli.compare import answers_of_both, check_comparable, num_labels_in
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
    name: Annotated[str, typer.Argument(help="The new version: spam@3.")],
    to: Annotated[str, typer.Option("--to", help="The alias to move.")],
    on: Annotated[str, typer.Option("--on", metavar="FILE", help="Labelled rows that neither version was trained on.")],
    rule: Annotated[
        str, typer.Option("--if", metavar="not-worse|better", help="What the test must show about the new version.")
    ] = "not-worse",
    margin: Annotated[float, typer.Option(help="With not-worse: tolerated loss, in points of 100.")] = 0.5,
    metric: Annotated[str | None, typer.Option(help="Metric (default: that of the new version).")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the decision; change nothing.")] = False,
    text: options.TextColumn = None,
    text_pair: options.PairColumn = None,
    label: options.LabelColumn = None,
    none_label: options.NoneLabel = None,
    store: options.StoreFolder = "adapters",
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Move an alias to another version, if that one is not worse than the version it points to now.

    Both versions answer the same rows, and a paired bootstrap tests the difference, as in compare. The decision is
    recorded in the store. A new alias is set without a test. Rows of --none-label count as in compare.
    """
    from polytask.adapters.promotions import record_decision
    from polytask.adapters.store import Store

    if rule not in RULES:
        raise UnknownName("rule of --if", rule, RULES)
    adapters = Store(store)
    entry, gate = adapters.entry(name), Gate(rule, margin / 100)
    before = version_of_alias(adapters, entry.task, to)
    check_not_current(before, entry, to)
    said: dict[str, Any] = {"rule": rule, "margin": margin, "on": Path(on).name}
    verdict = None
    columns: dict[str, Any] = {"text": text, "text_pair": text_pair, "label": label}
    if before is None:
        rows_to_score([entry], on, ColumnOptions(**columns), label_of_examples([entry], none_label))
    else:
        verdict = judge(gate, adapters, (before, entry), on, columns, none_label, metric, (device, dtype))
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
        show(entry, to, before, verdict, is_dry_run=dry_run)
    if not is_allowed:
        raise error_exit(f"{entry.task}@{to} stays {before}: {verdict.why if verdict else ''}", USER_ERROR)


def check_not_current(before: Entry | None, entry: Entry, alias: str) -> None:
    """Refuse to promote the version that the alias already points to.

    Raises:
        PolytaskError: it points to this version.
    """
    if before is not None and before.version == entry.version:
        raise PolytaskError(f"{entry.task}@{alias} already points to {entry}. Name another version")


def version_of_alias(adapters: Store, task: str, alias: str) -> Entry | None:
    """The version that an alias points to; None if there is no such alias."""
    try:
        return adapters.entry(f"{task}@{alias}")
    except NoSuchAdapter:
        return None


def judge(
    gate: Gate,
    adapters: Store,
    entries: tuple[Entry, Entry],
    file: str,
    columns: dict[str, Any],
    none_label: str | None,
    metric: str | None,
    where: tuple[str, str],
) -> Verdict:
    """Compare two versions on labelled rows, and apply the gate."""
    from polytask.data.metric_names import check_metric

    check_comparable(*entries)
    head, name = entries[0].header.head, metric or entries[1].metric
    check_metric(name, head.kind)
    rows = rows_to_score(entries, file, ColumnOptions(**columns), label_of_examples(entries, none_label))
    assert rows.targets is not None, "labelled rows have targets"
    num_labels = num_labels_in(entries[0], rows, name)
    answers = answers_of_both(adapters, entries, rows, *where)
    return gate.judge(name, head.kind, rows.targets, *answers, num_labels=num_labels)


def show(entry: Entry, alias: str, before: Entry | None, verdict: Verdict | None, *, is_dry_run: bool) -> None:
    """Print the decision, and the scores that it is based on."""
    out = console.terminal()
    if verdict is not None:
        scores = [(str(before), verdict.score_before), (str(entry), verdict.score)]
        rows: list[tuple[str, RenderableType]] = [
            (of, result_tables.score_in_words(verdict.metric, value, verdict.rows)) for of, value in scores
        ]
        difference = f"{verdict.difference:+.4f}  ({verdict.low:+.4f} to {verdict.high:+.4f})"
        out.print(console.panel(f"{entry.task}@{alias}", [*rows, ("difference", difference), ("because", verdict.why)]))
    if verdict is None or verdict.is_allowed:
        out.print(f"{entry.task}@{alias} {'would point' if is_dry_run else 'now points'} to {entry}")
