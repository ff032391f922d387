"""Results as tables and panels on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from polytask.adapters.store import Entry
    from polytask.evaluation.baselines import Majority
    from polytask.evaluation.per_label import Report
    from polytask.inference.prediction import Prediction
    from polytask.training.result import Result
from polytask.cli.console import LONGEST_MAJORITY, MOST, MOST_COLUMNS, TOGETHER, WIDTH, grid, panel
from polytask.cli.top_k import likeliest
from polytask.cli.wording import (
    SHORTEST_TEXT,
    bytes_in_words,
    counted,
    method_in_words,
    metric_in_words,
    seconds_in_words,
    shortened,
)

LONGEST_ANSWER = 48


def answer_in_words(prediction: Prediction, top_k: int | None = None) -> Text:
    """``spam 98%``, ``urgent 91%, billing 64%``, ``3.42``, ``martial spirit 87%``."""
    if prediction.error is not None:
        return Text(f"({prediction.error})", style="yellow")
    if top_k is not None:
        ranked = likeliest(prediction, top_k).items()
        return Text(", ").join(_with_share(shortened(label, LONGEST_ANSWER), share) for label, share in ranked)
    if prediction.answer is not None:
        return _with_share(shortened(prediction.answer, LONGEST_ANSWER) or "(none)", prediction.score or 0.0)
    if prediction.score is not None:
        return Text(f"{prediction.score:.3f}")
    if prediction.labels is not None:
        shares = prediction.probs or {}
        shown = [_with_share(shortened(label, LONGEST_ANSWER), shares[label]) for label in prediction.labels]
        return Text(", ").join(shown) if shown else Text("(none)")
    if prediction.label is None:
        best, share = max((prediction.probs or {}).items(), key=lambda pair: pair[1])
        return Text.assemble("(abstained: ", _with_share(shortened(best, LONGEST_ANSWER), share), ")")
    share = (prediction.probs or {})[prediction.label]
    return _with_share(shortened(prediction.label, LONGEST_ANSWER), share)


def _with_share(answer: str, share: float) -> Text:
    style = "green" if share >= 0.8 else "yellow" if share >= 0.5 else "red"
    return Text.assemble(answer, " ", (f"{share:.0%}", style))


def answers(
    texts: Sequence[str],
    by_task: Mapping[str, Sequence[Prediction]],
    pairs: Sequence[str] | None = None,
    top_k: int | None = None,
) -> Table:
    """One line a text or pair of texts, one column a task; the texts are cut to what room the answers leave."""
    columns = [[answer_in_words(prediction, top_k) for prediction in column] for column in by_task.values()]
    widths = [
        max(len(name), *(cell.cell_len for cell in column[: len(texts)])) for name, column in zip(by_task, columns)
    ]
    given = {"text": texts} if pairs is None else {"text": texts, "second text": pairs}
    room = max((WIDTH - sum(width + 3 for width in widths)) // len(given) - 2, SHORTEST_TEXT)
    table = grid(*given, *by_task)
    for row in range(len(texts)):
        shown = (Text(shortened(column[row], room)) for column in given.values())
        table.add_row(*shown, *(column[row] for column in columns))
    return table


def entries(found: Sequence[Entry]) -> Table:
    """The adapters of a store."""
    table = grid("adapter", "labels", "method", "score", "backbone", "size", "made", right=("size",))
    for entry in found:
        header = entry.header
        shown = header.head.kind if not entry.labels else f"{len(entry.labels)}: {', '.join(entry.labels)}"
        alias = "".join(f" ({name})" for name in entry.aliases)
        table.add_row(
            Text.assemble((str(entry), "bold"), alias),
            Text(shortened(shown, 36)),
            method_in_words(header.to_object()["method"]),
            f"{entry.metric} {entry.score:.3f}",
            shortened(header.backbone.name, 24),
            bytes_in_words(entry.size_bytes),
            entry.created[:10],
        )
    return table


def trained(entry: Entry, result: Result, majority: Majority | None, max_length: int = MOST) -> RenderableType:
    """What came of a training run: the score beside what it must be held against, its cost, and where it is.

    ``max_length`` is what the backbone reads of a text.
    """
    of, train = result.parameters, result.train
    called = metric_in_words(result.validation.metric, entry.labels)
    padded = "" if "padding" not in train else f", {train['padding']:.0%} padding{TOGETHER.get(train['routing'], '')}"
    rows: list[tuple[str, RenderableType]] = []
    if result.test is not None:
        rows.append(("test", scored(**{**asdict(result.test), "metric": called}, majority=majority)))
    versus = majority if result.test is None else None
    rows += [
        ("validation", scored(**{**asdict(result.validation), "metric": called}, majority=versus)),
        ("kept", f"epoch {result.best_epoch} of {train['epochs']}"),
        (
            "trained",
            f"{of['trained']:,} parameters and a head of {of['head']:,}: "
            f"{of['percent']:.2f}% of the backbone's {of['backbone']:,}",
        ),
        (
            "time",
            f"{seconds_in_words(train['seconds'])}, {train['epochs']} × {counted(train['rows'], 'text')}, "
            f"{train['tokens_per_second']:,.0f} tokens/s{padded}",
        ),
        ("truncated", truncated(result.truncated, train["rows"], result.recipe, max_length)),
        ("adapter", Text.assemble((entry.path, "bold"), f"  {bytes_in_words(entry.size_bytes)}")),
    ]
    name = f"{entry} · {method_in_words(result.method)} on {entry.header.backbone.name}"
    return panel(f"{name} ({result.environment['dtype']}, {result.environment['device']})", rows)


def scored(
    metric: str,
    score: float,
    rows: int,
    interval: tuple[float, float] | None = None,
    majority: Majority | None = None,
) -> Text:
    """``accuracy 0.912  (0.883 to 0.940; majority class of the training rows ('ham'): 0.504) on 400 texts``.

    The range is the score's 95% interval.
    """
    beside = [] if interval is None else [f"{interval[0]:.3f} to {interval[1]:.3f}"]
    if majority is not None:
        label = shortened(majority.label, LONGEST_MAJORITY)
        beside.append(f"majority class of the training rows ({label!r}): {majority.score:.3f}")
    versus = f"  ({'; '.join(beside)})" if beside else ""
    return Text.assemble(f"{metric} ", (f"{score:.3f}", "bold green"), (f"{versus} on {counted(rows, 'text')}", "dim"))


def truncated(num_truncated: int, num_rows: int, recipe: Mapping[str, Any], most: int = MOST) -> Text:
    """How many texts lost their end; ``most`` is what the backbone reads."""
    max_length, is_span = min(recipe["max_length"], most), recipe["stride"] is not None
    if is_span and num_truncated:
        return Text(
            f"{num_truncated:,} of {counted(num_rows, 'question')} lost their end; contexts are read in windows"
        )
    if is_span or recipe["long"] == "split":
        return Text(f"none: what is longer than {max_length} tokens is read in windows")
    if not num_truncated:
        return Text(f"none of {counted(num_rows, 'text')} is longer than {max_length} tokens")
    share = num_truncated / num_rows
    text = (
        f"{num_truncated:,} of {counted(num_rows, 'text')} ({share:.0%}) lost what they have beyond {max_length} tokens"
    )
    return Text(text, style="yellow" if share >= 0.1 else "")


def evaluated(
    entry: Entry,
    file: str,
    num_rows: int,
    metric: str,
    metrics: Mapping[str, float],
    interval: tuple[float, float],
    majority: Majority | None,
) -> RenderableType:
    """The scores of an adapter on a file."""
    called = metric_in_words(metric, entry.labels)
    rows: list[tuple[str, RenderableType]] = [("score", scored(called, metrics[metric], num_rows, interval, majority))]
    rows += [(metric_in_words(name, entry.labels), f"{value:.3f}") for name, value in metrics.items() if name != metric]
    return panel(f"{entry} on {file}", rows)


def by_label(report: Report) -> Table:
    """Which labels are found and which are missed, in the order of ``confused``."""
    table = grid("label", *_OF_LABELS, right=_OF_LABELS)
    for label in report.labels:
        shares = (f"{share:.3f}" for share in (label.precision, label.recall, label.f1))
        table.add_row(Text(shortened(label.label, 36)), *shares, f"{label.rows:,}")
    return table


_OF_LABELS = ("precision", "recall", "F1", "rows")


def confused(labels: Sequence[str], confusion: Sequence[Sequence[int]]) -> Table:
    """Which label is taken for which: a matrix, or of many labels the commonest mistakes."""
    names = [shortened(label, 16) for label in labels]
    if len(labels) > MOST_COLUMNS:
        mistakes = [
            (count, right, given)
            for right, row in zip(names, confusion)
            for given, count in zip(names, row)
            if count and given != right
        ]
        table = grid("true label", "answered instead", "rows", right=("rows",))
        for count, right, given in sorted(mistakes, key=lambda mistake: -mistake[0])[:MOST_COLUMNS]:
            table.add_row(Text(right), Text(given), f"{count:,}")
        return table
    table = grid("true label, by answer:")
    for name in names:
        table.add_column(Text(name), justify="right")
    for at, (name, row) in enumerate(zip(names, confusion)):
        cells = [Text(f"{count:,}", style="bold green" if at == column else "") for column, count in enumerate(row)]
        table.add_row(Text(name), *cells)
    return table
