"""``polytask eval``: score adapters on a labelled file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polytask.cli import console, options, result_tables
from polytask.cli.input_rows import rows_to_score
from polytask.cli.options import app, emit, examples, loaded

if TYPE_CHECKING:
    from polytask.adapters.header import Header
    from polytask.data.task import Target
    from polytask.evaluation.baselines import Majority
from polytask.cli.answers import answered, check_drawable


@app.command(
    name="eval",
    epilog=examples(
        "polytask eval test.csv --task sentiment",
        "polytask eval test.csv --task sentiment@2 --metric f1 --confusion confusion.png",
    ),
)
def evaluate(
    file: Annotated[str, typer.Argument(help="Rows with labels.")],
    task: Annotated[str, typer.Option(help="The adapter: sentiment, sentiment@2, sentiment@best.")],
    metric: Annotated[str | None, typer.Option(help="The one it was trained by unless given.")] = None,
    confusion: Annotated[
        str | None,
        typer.Option(metavar="FILE.png", help="Draw which label is taken for which; needs polytask\\[paper]."),
    ] = None,
    text: options.TextColumn = None,
    text_pair: options.PairColumn = None,
    label: options.LabelColumn = None,
    drop_empty: options.DropEmpty = False,
    encoding: options.Encoding = None,
    store: options.StoreFolder = "adapters",
    backbone: options.OfBackbone = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Score a task's adapter on a file of texts with labels: as a whole, label by label, and what it confuses."""
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
    columns = {"text": text, "text_pair": text_pair, "label": label}
    rows = rows_to_score([entry], file, columns, drop_empty=drop_empty, encoding=encoding)
    assert rows.targets is not None, "labelled rows have targets"
    frozen = loaded(backbone or entry.header.backbone.name, device, dtype)
    given = answered(frozen, adapters, entry, rows)
    of_labels = len(head.labels)
    metrics = distinct(all_scores(head.kind, rows.targets, given, num_labels=of_labels), head.kind, of_labels, name)
    surely = bootstrap_interval(name, head.kind, rows.targets, given, num_labels=of_labels)
    by_label = report(head.kind, head.labels, rows.targets, given)
    if confusion is not None and by_label is not None and by_label.confusion is not None:
        from polytask.paper.figures import draw_confusion

        draw_confusion(confusion, head.labels, by_label.confusion, f"{entry} on {Path(file).name}")
    if as_json:
        whole = {"task": entry.task, "metric": name, "score": metrics[name], "rows": len(rows), "metrics": metrics}
        parts = {"classes": None, "confusion": None} if by_label is None else by_label.to_json()
        emit({**whole, "interval": surely, **parts})
        return
    out = console.terminal()
    if by_label is not None:
        out.print(result_tables.by_label(by_label))
        if by_label.confusion is not None:
            out.print(result_tables.confused(head.labels, by_label.confusion))
    majority = commonest_score(entry.header, name, rows.targets)
    out.print(result_tables.evaluated(entry, file, len(rows), name, metrics, surely, majority))
    if confusion is not None:
        out.print(f"the confusion matrix is drawn in {confusion}")


def commonest_score(header: Header, metric: str, targets: Sequence[Target]) -> Majority | None:
    """The metric where every row is given the label that was commonest in training; None where there is no such."""
    from polytask.evaluation.baselines import Majority
    from polytask.evaluation.metrics import score

    counts: Mapping[str, int] = header.result.get("label_counts") or {}
    labels = header.head.labels
    if header.head.kind != "classification" or set(counts) != set(labels):
        return None
    commonest = labels.index(max(labels, key=lambda label: counts[label]))
    answers = [commonest] * len(targets)
    value = score(metric, header.head.kind, targets, answers, num_labels=len(labels))
    return Majority(labels[commonest], value)
