"""Precision, recall and F1 of each label, and the confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from polytask.data.task import Kind, Target
from polytask.evaluation.metrics import indicators


@dataclass(frozen=True)
class LabelScores:
    """The scores of one label.

    Attributes:
        label: the label's name.
        precision: the share of correct predictions among those of this label; 0.0 if undefined, as the next two.
        recall: the share of rows with this label that were predicted correctly.
        f1: the harmonic mean of precision and recall.
        rows: the number of rows with this label.
    """

    label: str
    precision: float
    recall: float
    f1: float
    rows: int


@dataclass(frozen=True)
class Report:
    """The scores of each label and the confusion matrix.

    Attributes:
        labels: one entry per label.
        confusion: ``confusion[i][j]`` is the number of rows with label ``i`` and prediction ``j``; None if rows may
            have several labels.
    """

    labels: tuple[LabelScores, ...]
    confusion: tuple[tuple[int, ...], ...] | None

    def to_json(self) -> dict[str, Any]:
        """Return ``classes`` and ``confusion`` as plain values."""
        return {"classes": [asdict(label) for label in self.labels], "confusion": self.confusion}


def report(
    kind: Kind, labels: Sequence[str], targets: Sequence[Target], predictions: Sequence[Target]
) -> Report | None:
    """Score each label separately.

    Args:
        kind: the kind of task.
        labels: the label names in the order of their indices; labels that never occur are listed, too.
        targets: the correct answers, in the form of ``Rows.targets``.
        predictions: the predictions, in the same form and order.

    Returns:
        The report; None for regression and spans, which have no labels.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    if kind in ("regression", "span"):
        return None
    every = list(range(len(labels)))
    given: tuple[Any, Any] = (targets, predictions)
    if kind == "multilabel":
        given = (indicators(targets, len(labels)), indicators(predictions, len(labels)))
        if len(labels) == 1:  # scikit-learn does not treat one column as multi-label
            given, every = (given[0].ravel(), given[1].ravel()), [1]
    columns = precision_recall_fscore_support(*given, labels=every, zero_division=0.0)
    found = [
        LabelScores(label, float(precision), float(recall), float(f1), int(rows))
        for label, precision, recall, f1, rows in zip(labels, *columns)
    ]
    confusion = None
    if kind == "classification":
        confusion = tuple(map(tuple, confusion_matrix(*given, labels=every).tolist()))
    return Report(tuple(found), confusion)
