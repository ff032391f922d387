"""``polytask compare``: test whether one adapter answers better than another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polytask.cli import console, options, result_tables
from polytask.cli.answers import predictions_of, target_of
from polytask.cli.input_rows import label_of_examples, rows_to_score
from polytask.cli.option_groups import ColumnOptions
from polytask.cli.options import app, examples, load_backbone_of, print_json
from polytask.cli.verdicts import verdict
from polytask.errors import RecipeError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from polytask.adapters.store import Entry, Store
    from polytask.backbones.backbone import Backbone
    from polytask.data.task import Rows, Target
    from polytask.evaluation.significance import Difference


@app.command(
    epilog=examples(
        "polytask compare sentiment@1 sentiment@2 test.csv",
        "polytask compare sentiment@best reviews test.csv --metric f1 --json",
    )
)
def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="An adapter: sentiment, sentiment@2, hub:OWNER/NAME.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Another adapter with the same labels.")],
    file: Annotated[str, typer.Argument(help="Texts with labels that neither adapter was trained on.")],
    input_columns: ColumnOptions,
    metric: Annotated[str | None, typer.Option(help="Metric (default: that of A).")] = None,
    none_label: options.NoneLabel = None,
    store: options.StoreFolder = "adapters",
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Score two adapters on the same rows and test whether the difference is statistically significant.

    The test is a paired bootstrap over 1,000 resamples of the rows. If the file has rows of the label that means none
    of these (--none-label, by default the one used in training), it counts as one more label: the right answer to these
    rows is none of these.
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
    rows = rows_to_score(entries, file, input_columns, label_of_examples(entries, none_label))
    assert rows.targets is not None, "labelled rows have targets"
    num_labels = num_labels_in(entries[0], rows, name)
    answers = answers_of_both(adapters, entries, rows, device, dtype)
    shared = (name, head.kind, rows.targets)
    scores = [score(*shared, column, num_labels=num_labels) for column in answers]
    intervals = [bootstrap_interval(*shared, column, num_labels=num_labels) for column in answers]
    found = paired_test(*shared, *answers, num_labels=num_labels)
    if as_json:
        sides = [
            {"adapter": str(entry), "score": value, "interval": interval}
            for entry, value, interval in zip(entries, scores, intervals)
        ]
        whole = {"metric": name, "rows": len(rows), "a": sides[0], "b": sides[1], "difference": found.difference}
        rest = {"p_value": found.p_value, "answered_differently": found.num_apart}
        interval = [found.low, found.high]
        print_json({**whole, "interval": interval, **rest, "is_more_than_chance": found.is_more_than_chance})
        return
    scored = [result_tables.score_in_words(name, value, len(rows), near) for value, near in zip(scores, intervals)]
    show_comparison(entries, scored, found, name, Path(file).name, len(rows))


def num_labels_in(entry: Entry, rows: Rows, metric: str) -> int:
    """The number of labels, plus one if some rows have the label that means none of these.

    Raises:
        RecipeError: the metric needs two labels, and none of these would be a third.
    """
    labels = entry.labels
    if entry.header.head.kind != "classification" or len(labels) not in (rows.targets or ()):
        return len(labels)
    if metric == "f1" and len(labels) == 2:
        raise RecipeError("f1 needs two labels, and none of these would be a third. Give --metric macro_f1 or accuracy")
    return len(labels) + 1


def answers_of_both(
    adapters: Store, entries: Sequence[Entry], rows: Rows, device: str, dtype: str
) -> list[list[Target]]:
    """The answers of both adapters, as indices into the labels of the first."""
    backbones = {
        key: load_backbone_of(entry, device, dtype)
        for key, entry in {(entry.header.backbone.name, entry.header.pooling): entry for entry in entries}.items()
    }
    labels = entries[0].labels
    return [
        reordered_answers(
            labels,
            entry.labels,
            targets_predicted(backbones[entry.header.backbone.name, entry.header.pooling], adapters, entry, rows),
        )
        for entry in entries
    ]


def targets_predicted(backbone: Backbone, adapters: Store, entry: Entry, rows: Rows) -> list[Target]:
    """The answers of an adapter: label indices, numbers or spans.

    A row is answered with its likeliest label. If some rows have the label that means none of these (their target is
    the number of labels), a text that is detected as none of these is answered with that number.
    """
    none = len(entry.labels)
    counts_none = entry.header.head.kind == "classification" and none in (rows.targets or ())
    return [
        none if own.none and counts_none else target_of(own, entry.labels)
        for own in predictions_of(backbone, adapters, entry, rows)
    ]


def show_comparison(
    entries: Sequence[Entry],
    scored: Sequence[RenderableType],
    found: Difference,
    metric: str,
    file: str,
    num_rows: int,
) -> None:
    """Print both scores, their difference with its interval, and the verdict."""
    facts: list[tuple[str, RenderableType]] = [(str(entry), value) for entry, value in zip(entries, scored)]
    facts.append(("difference", f"{found.difference:+.3f}  ({found.low:+.3f} to {found.high:+.3f})"))
    out = console.terminal()
    out.print(console.panel(f"{entries[0]} and {entries[1]} on {file}", facts))
    out.print(verdict(str(entries[0]), str(entries[1]), metric, found, num_rows))


def check_comparable(first: Entry, second: Entry) -> None:
    """Refuse to compare an adapter with itself, or adapters of different kinds or labels."""
    if str(first) == str(second):
        raise RecipeError(f"{first} is compared with itself. Name another adapter, or another version of it")
    one, other = first.header.head, second.header.head
    if one.kind != other.kind:
        raise RecipeError(
            f"{first} is a {one.kind} task and {second} is a {other.kind} task, so they cannot be compared"
        )
    if set(one.labels) != set(other.labels):
        odd = ", ".join(map(repr, sorted(set(one.labels) ^ set(other.labels))[:5]))
        raise RecipeError(f"{first} and {second} do not have the same labels. Only one of them has {odd}")


def reordered_answers(labels: Sequence[str], own: Sequence[str], answers: Sequence[Target]) -> list[Target]:
    """Answers as indices into ``labels``; ``own`` are the same labels in the order of the adapter."""
    if tuple(labels) == tuple(own):
        return list(answers)
    at = [*(labels.index(label) for label in own), len(labels)]
    return [tuple(sorted(at[i] for i in answer)) if isinstance(answer, tuple) else at[answer] for answer in answers]
