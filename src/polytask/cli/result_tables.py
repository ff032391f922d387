"""Results as tables and panels on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len, set_cell_size
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from polytask.cli.console import WIDTH, grid, panel
from polytask.cli.top_k import likeliest
from polytask.cli.wording import (
    bytes_in_words,
    counted,
    method_in_words,
    metric_in_words,
    seconds_in_words,
    shortened,
)

if TYPE_CHECKING:
    from polytask.adapters.store import Entry
    from polytask.backbones.backbone import Backbone
    from polytask.evaluation.baselines import Majority
    from polytask.evaluation.per_label import Report
    from polytask.inference.prediction import Prediction
    from polytask.training.estimate import Estimate
    from polytask.training.result import Result

MIN_TEXT_WIDTH, MAX_ANSWER_WIDTH, MAX_MAJORITY_WIDTH = 24, 48, 24
MAX_COLUMNS = 10
"""Up to this many labels, a confusion matrix is shown; with more, the most frequent mistakes are listed."""
UNLIMITED = sys.maxsize
ROUTING = {"grouped": ", trained in one product with other runs"}
"""Said of a run that trained together with others; a single run gets no remark."""


def answer_in_words(prediction: Prediction, top_k: int | None = None) -> Text:
    """``spam 98%``, ``urgent 91%, billing 64%``, ``3.42``, ``martial spirit 87%``."""
    if prediction.error is not None:
        return Text(f"({prediction.error})", style="yellow")
    if top_k is not None:
        ranked = likeliest(prediction, top_k).items()
        return Text(", ").join(_with_share(shortened(label, MAX_ANSWER_WIDTH), share) for label, share in ranked)
    if prediction.answer is not None:
        return _with_share(shortened(prediction.answer, MAX_ANSWER_WIDTH) or "(none)", prediction.score or 0.0)
    if prediction.score is not None:
        return Text(f"{prediction.score:.3f}")
    if prediction.labels is not None:
        shares = prediction.probs or {}
        shown = [_with_share(shortened(label, MAX_ANSWER_WIDTH), shares[label]) for label in prediction.labels]
        return Text(", ").join(shown) if shown else _likeliest_as(prediction, "none")
    if prediction.label is None:
        return Text("(none of these)") if prediction.none else _likeliest_as(prediction, "abstained")
    share = (prediction.probs or {})[prediction.label]
    return _with_share(shortened(prediction.label, MAX_ANSWER_WIDTH), share)


def _likeliest_as(prediction: Prediction, what: str) -> Text:
    """``(none: billing 31%)``: why there is no label, and the likeliest label."""
    best, share = max((prediction.probs or {}).items(), key=lambda pair: pair[1])
    return Text.assemble(f"({what}: ", _with_share(shortened(best, MAX_ANSWER_WIDTH), share), ")")


def _with_share(answer: str, share: float) -> Text:
    style = "green" if share >= 0.8 else "yellow" if share >= 0.5 else "red"
    return Text.assemble(answer, " ", (f"{share:.0%}", style))


def answers_table(
    texts: Sequence[str],
    by_task: Mapping[str, Sequence[Prediction]],
    pairs: Sequence[str] | None = None,
    top_k: int | None = None,
) -> Table:
    """One line per text or pair of texts, one column per task; texts are shortened to fit."""
    cells = answer_cells(texts, by_task, pairs, top_k)
    table = grid(*(name for name, _ in cells))
    for row in zip(*(own for _, own in cells)):
        table.add_row(*row)
    return table


def plain_answer_lines(
    texts: Sequence[str],
    by_task: Mapping[str, Sequence[Prediction]],
    pairs: Sequence[str] | None = None,
    top_k: int | None = None,
) -> Iterator[str]:
    """Yield the lines of the same table, for a pipe. Rich's layout would take longer than answering the texts."""
    columns = [[name, *(cell.plain for cell in own)] for name, own in answer_cells(texts, by_task, pairs, top_k)]
    widths = [max(map(cell_len, column)) for column in columns]
    header, *rows = zip(*columns)
    yield ""
    yield _padded(header, widths)
    yield " " + "─" * (sum(widths) + 3 * len(widths) - 1)
    yield from (_padded(row, widths) for row in rows)


def _padded(row: Sequence[str], widths: Sequence[int]) -> str:
    return " " + "   ".join(set_cell_size(cell, width) for cell, width in zip(row, widths)).rstrip()


def answer_cells(
    texts: Sequence[str],
    by_task: Mapping[str, Sequence[Prediction]],
    pairs: Sequence[str] | None,
    top_k: int | None,
) -> list[tuple[str, list[Text]]]:
    """The columns of the texts, shortened to fit, and of each task's answers."""
    columns = [
        (name, [answer_in_words(own, top_k) for own in column[: len(texts)]]) for name, column in by_task.items()
    ]
    widths = [max(len(name), *(cell.cell_len for cell in column)) for name, column in columns]
    given = {"text": texts} if pairs is None else {"text": texts, "second text": pairs}
    room = max((WIDTH - sum(width + 3 for width in widths)) // len(given) - 2, MIN_TEXT_WIDTH)
    return [*((name, [Text(shortened(text, room)) for text in column]) for name, column in given.items()), *columns]


def entries_table(found: Sequence[Entry]) -> Table:
    """The adapters of a store."""
    table = grid("adapter", "labels", "method", "score", "backbone", "size", "created", right=("size",))
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


def training_panel(
    entry: Entry, result: Result, majority: Majority | None, max_length: int = UNLIMITED
) -> RenderableType:
    """The result of a training run: its scores beside the majority class, its cost, and the file of the adapter.

    Args:
        entry: the adapter in the store.
        result: the result of the training.
        majority: the score of the majority class.
        max_length: the maximum number of tokens that the backbone reads.
    """
    train = result.train
    called = metric_in_words(result.validation.metric, entry.labels)
    padded = "" if "padding" not in train else f", {train['padding']:.0%} padding{ROUTING.get(train['routing'], '')}"
    rows: list[tuple[str, RenderableType]] = []
    if result.test is not None:
        rows.append(("test", score_in_words(**{**asdict(result.test), "metric": called}, majority=majority)))
    versus = majority if result.test is None else None
    if "score" in (result.probe or {}):
        rows.append(("probe", probe_in_words(result.probe or {}, called)))
    rows += [
        ("validation", score_in_words(**{**asdict(result.validation), "metric": called}, majority=versus)),
        (result.recipe.get("keep_epoch", "best"), f"epoch {result.best_epoch} of {train['epochs']}"),
        ("trained", trained_parameters(result.parameters)),
        (
            "time",
            f"{seconds_in_words(train['seconds'])}, {train['epochs']} × {counted(train['rows'], 'text')}, "
            f"{train['tokens_per_second']:,.0f} tokens/s{padded}",
        ),
        ("truncated", truncation_in_words(result.truncated, train["rows"], result.recipe, max_length)),
        ("adapter", Text.assemble((entry.path, "bold"), f"  {bytes_in_words(entry.size_bytes)}")),
    ]
    name = f"{entry} · {method_in_words(result.method)} on {entry.header.backbone.name}"
    return panel(f"{name} ({result.environment['dtype']}, {result.environment['device']})", rows)


def probe_in_words(probe: Mapping[str, Any], called: str) -> str:
    """``accuracy 0.912 on the same rows, fitted in 2.3 s``."""
    return f"{called} {probe['score']:.3f} on the same rows, fitted in {seconds_in_words(probe['seconds'])}"


def estimate_panel(task: str, backbone: Backbone, cost: Estimate) -> RenderableType:
    """The estimated cost of a training run."""
    parameters, memory, recipe = cost.parameters, cost.memory_bytes, cost.recipe
    windows = "" if cost.texts == cost.rows else f" in {counted(cost.texts, 'window')}"
    memory_text = Text(
        f"{bytes_in_words(memory['total'])}: {bytes_in_words(memory['backbone'])} backbone, "
        f"{bytes_in_words(memory['training'])} trained, {bytes_in_words(memory['step'])} the largest step",
        style="yellow" if memory["total"] - memory["backbone"] > memory["free"] else "",
    )
    rows: list[tuple[str, RenderableType]] = [
        ("rows", f"{cost.rows:,} for training{windows}, {cost.validation_rows:,} for validation"),
        ("tokens", f"{cost.tokens_an_epoch:,} per epoch, {cost.tokens:,} in total"),
        ("truncated", truncation_in_words(cost.truncated, cost.rows, recipe, backbone.max_length)),
        ("steps", f"{cost.steps:,}: {counted(cost.epochs, 'epoch')} in batches of at most {recipe['batch_size']}"),
        ("trained", trained_parameters(parameters)),
        ("memory", memory_text),
        ("free now", bytes_in_words(memory["free"])),
        ("time", f"about {seconds_in_words(cost.seconds)}, at the speed of a few steps timed now"),
    ]
    dtype = str(backbone.dtype).removeprefix("torch.")
    name = f"{task} · {method_in_words(recipe['method'])} on {backbone.name} ({dtype}, {backbone.device})"
    return panel(name, [*rows, ("adapter", "none: nothing was trained or written")])


def trained_parameters(parameters: Mapping[str, Any]) -> str:
    """``605,184 parameters and a head of 770: 2.68% of the backbone's 22,565,376``."""
    return (
        f"{parameters['trained']:,} parameters and a head of {parameters['head']:,}: "
        f"{parameters['percent']:.2f}% of the backbone's {parameters['backbone']:,}"
    )


def score_in_words(
    metric: str,
    score: float,
    rows: int,
    interval: tuple[float, float] | None = None,
    majority: Majority | None = None,
) -> Text:
    """``accuracy 0.912  (0.883 to 0.940; majority class of the training rows ('ham'): 0.504) on 400 texts``.

    The range is the 95% confidence interval of the score.
    """
    beside = [] if interval is None else [f"{interval[0]:.3f} to {interval[1]:.3f}"]
    if majority is not None:
        label = shortened(majority.label, MAX_MAJORITY_WIDTH)
        beside.append(f"majority class of the training rows ({label!r}): {majority.score:.3f}")
    versus = f"  ({'; '.join(beside)})" if beside else ""
    return Text.assemble(f"{metric} ", (f"{score:.3f}", "bold green"), (f"{versus} on {counted(rows, 'text')}", "dim"))


def truncation_in_words(
    num_truncated: int, num_rows: int, recipe: Mapping[str, Any], text_limit: int = UNLIMITED
) -> Text:
    """How many texts were truncated; ``text_limit`` is the maximum number of tokens that the backbone reads."""
    max_length, is_span = min(recipe["max_length"], text_limit), recipe["stride"] is not None
    if is_span and num_truncated:
        return Text(f"{num_truncated:,} of {counted(num_rows, 'question')} truncated; contexts are read in windows")
    if is_span or recipe["long"] == "split":
        return Text(f"none: texts of more than {max_length} tokens are read in windows")
    if not num_truncated:
        return Text(f"none of {counted(num_rows, 'text')} is longer than {max_length} tokens")
    share = num_truncated / num_rows
    text = f"{num_truncated:,} of {counted(num_rows, 'text')} ({share:.0%}) cut off at {max_length} tokens"
    return Text(text, style="yellow" if share >= 0.1 else "")


def evaluation_panel(
    entry: Entry,
    file: str,
    num_rows: int,
    metric: str,
    metrics: Mapping[str, float],
    interval: tuple[float, float],
    majority: Majority | None,
    detection: Mapping[str, Any] | None = None,
) -> RenderableType:
    """The scores of an adapter on a file, and how well it detects none of these."""
    called = metric_in_words(metric, entry.labels)
    rows: list[tuple[str, RenderableType]] = [
        ("score", score_in_words(called, metrics[metric], num_rows, interval, majority))
    ]
    rows += [(metric_in_words(name, entry.labels), f"{value:.3f}") for name, value in metrics.items() if name != metric]
    rows += [] if detection is None else [("none of these", detection_in_words(detection))]
    return panel(f"{entry} on {file}", rows)


def detection_in_words(detection: Mapping[str, Any]) -> str:
    """``false alarms 0.030 (0.016 to 0.056), found 0.912 (0.830 to 0.957) of 80 rows of 'oos', AUROC 0.971, …``."""
    alarms, found = (
        "" if own is None else f"{own[0]:.3f} ({own[1]:.3f} to {own[2]:.3f})"
        for own in (detection["false_alarms"], detection["found"])
    )
    of = f"found {found} of {detection['rows']:,} rows of {detection['label']!r}" if found else ""
    parts = [f"false alarms {alarms}" if alarms else "", of]
    if "auroc" in detection:
        parts += [f"AUROC {detection['auroc']:.3f}", f"FPR at 95% {detection['fpr95']:.3f}"]
    return ", ".join(part for part in parts if part)


def label_table(report: Report) -> Table:
    """Precision, recall and F1 of each label."""
    table = grid("label", *_OF_LABELS, right=_OF_LABELS)
    for label in report.labels:
        shares = (f"{share:.3f}" for share in (label.precision, label.recall, label.f1))
        table.add_row(Text(shortened(label.label, 36)), *shares, f"{label.rows:,}")
    return table


_OF_LABELS = ("precision", "recall", "F1", "rows")


def confusion_table(labels: Sequence[str], confusion: Sequence[Sequence[int]]) -> Table:
    """The confusion matrix, or the most frequent mistakes if there are many labels."""
    names = [shortened(label, 16) for label in labels]
    if len(labels) > MAX_COLUMNS:
        mistakes = [
            (count, right, given)
            for right, row in zip(names, confusion)
            for given, count in zip(names, row)
            if count and given != right
        ]
        table = grid("true label", "answered instead", "rows", right=("rows",))
        for count, right, given in sorted(mistakes, key=lambda mistake: -mistake[0])[:MAX_COLUMNS]:
            table.add_row(Text(right), Text(given), f"{count:,}")
        return table
    table = grid("true label, by answer:")
    for name in names:
        table.add_column(Text(name), justify="right")
    for at, (name, row) in enumerate(zip(names, confusion)):
        cells = [Text(f"{count:,}", style="bold green" if at == column else "") for column, count in enumerate(row)]
        table.add_row(Text(name), *cells)
    return table
