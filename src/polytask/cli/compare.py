"""``polytask compare``: whether one adapter answers better than another, or only by chance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polytask.cli import console, options, result_tables
from polytask.cli.answers import answered
from polytask.cli.input_rows import rows_to_score
from polytask.cli.options import app, emit, examples, loaded
from polytask.cli.verdicts import verdict
from polytask.errors import RecipeError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from polytask.adapters.store import Entry
    from polytask.backbones.backbone import Backbone
    from polytask.data.task import Target


@app.command(
    epilog=examples(
        "polytask compare sentiment@1 sentiment@2 test.csv",
        "polytask compare sentiment@best reviews test.csv --metric f1 --json",
    )
)
def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="An adapter: sentiment, sentiment@2, sentiment@best.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Another one with the same labels.")],
    file: Annotated[str, typer.Argument(help="Rows with labels that neither was trained on.")],
    metric: Annotated[str | None, typer.Option(help="The one that A was trained by unless given.")] = None,
    text: options.TextColumn = None,
    text_pair: options.PairColumn = None,
    label: options.LabelColumn = None,
    drop_empty: options.DropEmpty = False,
    encoding: options.Encoding = None,
    store: options.StoreFolder = "adapters",
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Let two adapters answer the same rows, and say whether their difference is more than chance.

    The rows are drawn anew 1,000 times, the same for both (a paired bootstrap).
    """
    from polytask.adapters.store import Store
    from polytask.data.metric_names import check_metric
    from polytask.evaluation.metrics import score
    from polytask.evaluation.significance import bootstrap_interval, paired_test

    adapters = Store(store)
    entries = [adapters.entry(first), adapters.entry(second)]
    check_comparable(*entries)
    head, name = entries[0].header.head, metric or entries[0].metric
    check_metric(name, head.kind)
    columns = {"text": text, "text_pair": text_pair, "label": label}
    rows = rows_to_score(entries, file, columns, drop_empty=drop_empty, encoding=encoding)
    assert rows.targets is not None, "labelled rows have targets"
    frozen: dict[str, Backbone] = {}
    answers = []
    for entry in entries:
        of = entry.header.backbone.name
        frozen[of] = frozen.get(of) or loaded(of, device, dtype)
        answers.append(in_order_of(head.labels, entry.labels, answered(frozen[of], adapters, entry, rows)))
    shared = (name, head.kind, rows.targets)
    of_labels = len(head.labels)
    scores = [score(*shared, column, num_labels=of_labels) for column in answers]
    intervals = [bootstrap_interval(*shared, column, num_labels=of_labels) for column in answers]
    found = paired_test(*shared, *answers, num_labels=of_labels)
    if as_json:
        sides = [
            {"adapter": str(entry), "score": value, "interval": surely}
            for entry, value, surely in zip(entries, scores, intervals)
        ]
        whole = {"metric": name, "rows": len(rows), "a": sides[0], "b": sides[1], "difference": found.difference}
        rest = {"p_value": found.p_value, "answered_differently": found.num_apart}
        emit({**whole, "interval": [found.low, found.high], **rest, "is_more_than_chance": found.is_more_than_chance})
        return
    facts: list[tuple[str, RenderableType]] = [
        (str(entry), result_tables.scored(name, value, len(rows), surely))
        for entry, value, surely in zip(entries, scores, intervals)
    ]
    facts.append(("difference", f"{found.difference:+.3f}  ({found.low:+.3f} to {found.high:+.3f})"))
    out = console.terminal()
    out.print(console.panel(f"{entries[0]} and {entries[1]} on {Path(file).name}", facts))
    out.print(verdict(str(entries[0]), str(entries[1]), name, found, len(rows)))


def check_comparable(first: Entry, second: Entry) -> None:
    """Refuse two adapters that do not answer the same question."""
    if (first.task, first.version) == (second.task, second.version):
        raise RecipeError(f"{first} is compared with itself. Name another adapter, or another version of it")
    one, other = first.header.head, second.header.head
    if one.kind != other.kind:
        raise RecipeError(
            f"{first} is of the kind {one.kind}, and {second} of the kind {other.kind}: they do not compare"
        )
    if set(one.labels) != set(other.labels):
        odd = ", ".join(map(repr, sorted(set(one.labels) ^ set(other.labels))[:5]))
        raise RecipeError(f"{first} and {second} do not have the same labels. Only one of them has {odd}")


def in_order_of(labels: Sequence[str], own: Sequence[str], answers: Sequence[Target]) -> list[Target]:
    """Answers as indices into ``labels``, which are ``own`` in another order."""
    if tuple(labels) == tuple(own):
        return list(answers)
    at = [labels.index(label) for label in own]
    return [tuple(sorted(at[i] for i in answer)) if isinstance(answer, tuple) else at[answer] for answer in answers]
