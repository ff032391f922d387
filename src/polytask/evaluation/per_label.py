"""What a score does not tell: which labels are found, which are missed, and which are taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from polytask.data.task import Kind, Target
from polytask.evaluation.metrics import indicators


@dataclass(frozen=True)
class LabelScores:
    """One label: the share of right answers where it was given, and where it was due.

    ``precision``, ``recall`` and ``f1`` are 0.0 where they are not defined; ``rows`` is how many have the label.
    """

    label: str
    precision: float
    recall: float
    f1: float
    rows: int


@dataclass(frozen=True)
class Report:
    """Scores label by label and, where each row has one label, which are taken for which.

    ``confusion[i][j]`` is the number of rows with the label ``i`` that were answered with ``j``; None where rows have
    several labels.
    """

    labels: tuple[LabelScores, ...]
    confusion: tuple[tuple[int, ...], ...] | None

    def to_json(self) -> dict[str, Any]:
        """``classes`` and ``confusion``."""
        return {"classes": [asdict(label) for label in self.labels], "confusion": self.confusion}


def report(
    kind: Kind, labels: Sequence[str], targets: Sequence[Target], predictions: Sequence[Target]
) -> Report | None:
    """Look at each label by itself; None for a regression or spans, which have none.

    Args:
        kind: of the task.
        labels: their names, in the order of their indices; those that do not occur are listed too.
        targets: as ``polytask.evaluation.metrics.score`` takes them, and so ``predictions``.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    if kind in ("regression", "span"):
        return None
    every = list(range(len(labels)))
    given: tuple[Any, Any] = (targets, predictions)
    if kind == "multilabel":
        given = (indicators(targets, len(labels)), indicators(predictions, len(labels)))
        if len(labels) == 1:  # one column is not a multi-label table to scikit-learn
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
