"""``polytask eval``: score an adapter on texts with labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polytask.cli import console, options, result_tables
from polytask.cli.answers import predictions_of, target_of
from polytask.cli.input_rows import label_of_examples, rows_to_score, without_examples
from polytask.cli.option_groups import ColumnOptions
from polytask.cli.options import app, examples, load_backbone_of, print_json
from polytask.cli.output import check_folder
from polytask.errors import DataError

if TYPE_CHECKING:
    from polytask.adapters.header import Header
    from polytask.adapters.store import Entry
    from polytask.data.task import Target
    from polytask.evaluation.baselines import Majority
    from polytask.inference.prediction import Prediction


@app.command(
    name="eval",
    epilog=examples(
        "polytask eval test.csv --task sentiment",
        "polytask eval test.csv --task sentiment@2 --metric f1 --confusion confusion.png",
    ),
)
def evaluate(
    file: Annotated[str, typer.Argument(help="Texts with labels.")],
    task: Annotated[str, typer.Option(help="The adapter: sentiment, sentiment@2, sentiment@best, hub:OWNER/NAME.")],
    input_columns: ColumnOptions,
    metric: Annotated[str | None, typer.Option(help="Metric (default: that of the training).")] = None,
    confusion: Annotated[
        str | None, typer.Option(metavar="FILE.png", help="Draw the confusion matrix; needs polytask\\[paper].")
    ] = None,
    none_label: options.NoneLabel = None,
    store: options.StoreFolder = "adapters",
    backbone: options.OfBackbone = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Score an adapter on texts with labels: overall, per label, and which labels it confuses.

    Every row is scored by its likeliest label. If the adapter detects texts with none of its labels, the false-alarm
    rate is shown, and the share of the rows of --none-label that it finds (default: the label used in training).
    """
    from polytask.adapters.store import Store
    from polytask.data.metric_names import check_metric
    from polytask.evaluation.metrics import all_scores, distinct
    from polytask.evaluation.per_label import report
    from polytask.evaluation.significance import bootstrap_interval

    adapters = Store(store)
    entry = adapters.entry(task)
    head, name = entry.header.head, metric or entry.metric
    check_metric(name, head.kind)
    check_drawable(confusion, head.kind)
    examples_label = label_of_examples([entry], none_label)
    rows, examples = without_examples(
        rows_to_score([entry], file, input_columns, examples_label), entry, examples_label
    )
    assert rows.targets is not None, "labelled rows have targets"
    frozen = load_backbone_of(entry, device, dtype, backbone)
    predictions = predictions_of(frozen, adapters, entry, rows)
    answers = [target_of(prediction, entry.labels) for prediction in predictions]
    of_examples = predictions_of(frozen, adapters, entry, examples) if len(examples) else []
    detection = measured_detection(entry, predictions, of_examples, examples_label)
    num_labels = len(head.labels)
    metrics = distinct(all_scores(head.kind, rows.targets, answers, num_labels=num_labels), head.kind, num_labels, name)
    interval = bootstrap_interval(name, head.kind, rows.targets, answers, num_labels=num_labels)
    by_label = report(head.kind, head.labels, rows.targets, answers)
    if confusion is not None and by_label is not None and by_label.confusion is not None:
        from polytask.drawing.confusion import draw_confusion

        draw_confusion(confusion, head.labels, by_label.confusion, f"{entry} on {Path(file).name}")
    if as_json:
        whole = {"task": entry.task, "metric": name, "score": metrics[name], "rows": len(rows), "metrics": metrics}
        parts = {"classes": None, "confusion": None} if by_label is None else by_label.to_json()
        print_json({**whole, "interval": interval, **parts, **({} if detection is None else {"none": detection})})
        return
    out = console.terminal()
    if by_label is not None:
        out.print(result_tables.label_table(by_label))
        if by_label.confusion is not None:
            out.print(result_tables.confusion_table(head.labels, by_label.confusion))
    majority = majority_of_training(entry.header, name, rows.targets)
    out.print(result_tables.evaluation_panel(entry, file, len(rows), name, metrics, interval, majority, detection))
    if confusion is not None:
        out.print(f"the confusion matrix is drawn in {confusion}")


def measured_detection(
    entry: Entry, predictions: Sequence[Prediction], of_examples: Sequence[Prediction], label: str | None
) -> dict[str, Any] | None:
    """How well none of these is detected; None if the adapter has no detector and the file no such rows.

    Returns:
        ``label``, its ``rows``, ``false_alarms``, ``found``, and where there are such rows ``auroc`` and ``fpr95``.
    """
    from polytask.evaluation.none_of_these import none_measured, separated

    if entry.header.none is None and not of_examples:
        return None
    shares = none_measured([own.none for own in predictions], [own.none for own in of_examples])
    familiar, unfamiliar = (
        [own.familiarity for own in answers if own.familiarity is not None] for answers in (predictions, of_examples)
    )
    return {"label": label, "rows": len(of_examples), **shares, **separated(familiar, unfamiliar)}


def check_drawable(file: str | None, kind: str) -> None:
    """Refuse a confusion matrix that cannot be drawn, before any work is done.

    Raises:
        DataError: the kind of task has none, the folder does not exist, or the format is unknown.
    """
    if file is None:
        return
    if kind != "classification":
        raise DataError(f"a {kind} task has no confusion matrix", fix="Leave out --confusion")
    from polytask.drawing.figures import figure

    check_folder(file)
    figure(file, 1, 1)


def majority_of_training(header: Header, metric: str, targets: Sequence[Target]) -> Majority | None:
    """The score of always predicting the most frequent training label; None if the header has no label counts."""
    from polytask.evaluation.baselines import Majority
    from polytask.evaluation.metrics import score

    counts: Mapping[str, int] = header.result.get("label_counts") or {}
    labels = header.head.labels
    if header.head.kind != "classification" or set(counts) != set(labels):
        return None
    most_frequent = labels.index(max(labels, key=lambda label: counts[label]))
    answers = [most_frequent] * len(targets)
    value = score(metric, header.head.kind, targets, answers, num_labels=len(labels))
    return Majority(labels[most_frequent], value)
