"""The confusion matrix, with labels that are confused side by side, and the pairs that are confused most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from polytask.drawing.table import text_table
from polytask.evaluation.per_label import report
from polytask.reporting.answered import Answered
from polytask.reporting.drawings import draw_confusion
from polytask.reporting.page import Picture, Section
from polytask.reporting.wording import named, percent
from polytask.wording import counted

MAX_PAIRS = 20
MIN_LABELS_SORTED = 8
"""From this many labels on, the matrix has them in another order than the adapter."""

MAX_LABELS_DRAWN = 150


@dataclass(frozen=True)
class Pair:
    """Rows with the label ``true`` that were answered ``predicted``: how many, and their share of the label's rows."""

    true: str
    predicted: str
    rows: int
    share: float


def confusion_section(answered: Answered) -> Section:
    """The matrix and the most confused pairs."""
    found = report(answered.kind, answered.labels, answered.targets, answered.predictions)
    assert found is not None
    assert found.confusion is not None, "a classification has a confusion matrix"
    counts, labels = found.confusion, answered.labels
    pairs = confused_pairs(labels, counts)
    order = drawn_labels(counts)
    matrix = [[counts[row][column] for column in order] for row in order]
    caption = "Rows are true labels, columns what was answered"
    caption += ". Labels that are confused stand side by side" if len(labels) >= MIN_LABELS_SORTED else ""
    caption += f". The {len(order):,} of {len(labels):,} labels with the most mistakes" * (len(order) < len(labels))
    rows = [(named(own.true), named(own.predicted), f"{own.rows:,}", percent(own.share)) for own in pairs]
    return Section(
        "confusion",
        "Confusions",
        _lead(pairs),
        pictures=(Picture(draw_confusion("confusion", [labels[at] for at in order], matrix), caption, is_wide=True),),
        tables=(text_table("Most confused", ("true label", "answered", "rows", "of the label"), rows, (2, 3)),),
        data={"labels": labels, "matrix": counts, "most_confused": [asdict(own) for own in pairs]},
    )


def _lead(pairs: Sequence[Pair]) -> str:
    if not pairs:
        return "No row was answered with another label than its own."
    first = pairs[0]
    return (
        f"The most frequent: {named(first.true)} is answered as {named(first.predicted)}, {counted(first.rows, 'row')}."
    )


def confused_pairs(labels: Sequence[str], counts: Sequence[Sequence[int]], most: int = MAX_PAIRS) -> list[Pair]:
    """The pairs of labels that are confused most, by their number of rows."""
    pairs = [
        Pair(labels[true], labels[given], count, count / sum(row))
        for true, row in enumerate(counts)
        for given, count in enumerate(row)
        if count and given != true
    ]
    return sorted(pairs, key=lambda pair: (-pair.rows, -pair.share))[:most]


def drawn_labels(counts: Sequence[Sequence[int]], most: int = MAX_LABELS_DRAWN) -> list[int]:
    """The labels that are drawn, in their order: of very many, those with the most mistakes."""
    import numpy as np

    table = np.asarray(counts)
    if len(table) < MIN_LABELS_SORTED:
        return list(range(len(table)))
    wrong = table.sum(axis=0) + table.sum(axis=1) - 2 * table.diagonal()
    kept = np.sort(np.argsort(-wrong, kind="stable")[:most])
    return [int(kept[at]) for at in side_by_side(table[np.ix_(kept, kept)].tolist())]


def side_by_side(counts: Sequence[Sequence[int]]) -> list[int]:
    """An order of the labels in which those that are confused stand side by side: the leaves of a clustering."""
    import numpy as np
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    table = np.asarray(counts, dtype=np.float64)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    apart = 1 - (shares + shares.T) / 2
    np.fill_diagonal(apart, 0)
    return [int(at) for at in leaves_list(linkage(squareform(apart, checks=False), "average", optimal_ordering=True))]
