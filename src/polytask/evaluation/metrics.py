"""Metrics: one function each, computed by scikit-learn, SciPy or, for spans, the official scorer of SQuAD.

Higher is better for every one of them. Targets and predictions are given as ``Rows.targets`` holds them:
indices of labels, tuples of such indices, scores, or tuples of ``Answer``: all that are right, the one that was given.

Two conventions are ours. A correlation with constant or non-finite predictions is not defined and counts as
0.0: such predictions say nothing about the order of the rows. And ``f1`` means the F1 of the label with
index 1 when a task has two labels (``spam`` of ``ham, spam``; 1 of 0, 1), the unweighted mean over the
labels, ``macro_f1``, when it has more.
"""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from polytask.data.metric_names import check_metric, metrics_for
from polytask.data.task import Kind, Target

Score = Callable[[Sequence[Target], Sequence[Target], int], float]
"""From targets, predictions and the number of labels to a score."""


def accuracy(targets: Sequence[int], predictions: Sequence[int], num_labels: int) -> float:
    """The share of rows answered right."""
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(targets, predictions))


def f1(targets: Sequence[int], predictions: Sequence[int], num_labels: int) -> float:
    """F1 of the label with index 1 where there are two labels, else the mean over the labels."""
    from sklearn.metrics import f1_score

    if num_labels > 2:
        return macro_f1(targets, predictions, num_labels)
    return float(f1_score(targets, predictions, pos_label=1, average="binary", zero_division=0.0))


def micro_f1(targets: Sequence[Target], predictions: Sequence[Target], num_labels: int) -> float:
    """F1 of all the decisions counted together."""
    return _averaged_f1(targets, predictions, num_labels, "micro")


def macro_f1(targets: Sequence[Target], predictions: Sequence[Target], num_labels: int) -> float:
    """The mean of the labels' F1s, over the labels that occur in targets or predictions."""
    return _averaged_f1(targets, predictions, num_labels, "macro")


def matthews(targets: Sequence[int], predictions: Sequence[int], num_labels: int) -> float:
    """Matthews' correlation coefficient; 0.0 where all targets or all predictions are the same."""
    from sklearn.metrics import matthews_corrcoef

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns where there is only one label, which scores 0.0
        return float(matthews_corrcoef(targets, predictions))


def pearson(targets: Sequence[float], predictions: Sequence[float], num_labels: int) -> float:
    """Pearson's correlation; 0.0 where it is not defined."""
    from scipy.stats import pearsonr

    return _correlation(pearsonr, targets, predictions)


def spearman(targets: Sequence[float], predictions: Sequence[float], num_labels: int) -> float:
    """Spearman's rank correlation; 0.0 where it is not defined."""
    from scipy.stats import spearmanr

    return _correlation(spearmanr, targets, predictions)


def span_f1(targets: Sequence[Target], predictions: Sequence[Target], num_labels: int) -> float:
    """SQuAD's F1 over the words of an answer, the mean over questions."""
    from polytask.suites import squad

    return _mean_of_answers(squad.f1, targets, predictions)


def exact_match(targets: Sequence[Target], predictions: Sequence[Target], num_labels: int) -> float:
    """The share of questions whose answer is one of the right ones, but for case, punctuation and articles."""
    from polytask.suites import squad

    return _mean_of_answers(squad.exact_match, targets, predictions)


METRICS: dict[str, Score] = {
    function.__name__: function
    for function in (accuracy, f1, matthews, micro_f1, macro_f1, pearson, spearman, span_f1, exact_match)
}
"""Every metric by its name."""


def score(
    metric: str,
    kind: Kind,
    targets: Sequence[Target],
    predictions: Sequence[Target],
    *,
    num_labels: int | None = None,
) -> float:
    """How good ``predictions`` are by this metric: in [0, 1], correlations in [-1, 1].

    Args:
        metric: a name in ``METRICS``.
        kind: the kind of the task.
        targets: the right answers, one a row, as ``Rows.targets`` holds them.
        predictions: the given answers, in the same form and order.
        num_labels: how many labels the task has. Only ``f1`` needs it, to tell two labels from more; without it,
            the highest index that occurs decides.

    Raises:
        UnknownName: there is no such metric.
        RecipeError: the metric does not fit the kind.
    """
    check_metric(metric, kind)
    assert len(targets) == len(predictions), f"{len(targets)} targets, {len(predictions)} predictions"
    assert len(targets) > 0, "no rows to score"
    if num_labels is None:
        num_labels = _labels_seen(targets, predictions) if kind in ("classification", "multilabel") else 0
    return METRICS[metric](targets, predictions, num_labels)


def all_scores(
    kind: Kind,
    targets: Sequence[Target],
    predictions: Sequence[Target],
    *,
    num_labels: int | None = None,
) -> dict[str, float]:
    """The score by every metric that fits this kind, the default first. Arguments as for ``score``."""
    return {name: score(name, kind, targets, predictions, num_labels=num_labels) for name in metrics_for(kind)}


def distinct(metrics: Mapping[str, float], kind: Kind, num_labels: int, metric: str) -> dict[str, float]:
    """Every number once, ``metric`` under its own name.

    In a classification micro F1 is accuracy; ``f1`` of more than two labels is ``macro_f1``.
    """
    twins = (
        {"micro_f1": "accuracy", **({"f1": "macro_f1"} if num_labels > 2 else {})} if kind == "classification" else {}
    )
    doubles = {twins[name] if name == metric else name for name in twins}
    return {name: value for name, value in metrics.items() if name not in doubles or name == metric}


def _averaged_f1(targets: Sequence[Target], predictions: Sequence[Target], num_labels: int, average: str) -> float:
    from sklearn.metrics import f1_score

    if not isinstance(targets[0], tuple):
        return float(f1_score(targets, predictions, average=average, zero_division=0.0))
    true, given = indicators(targets, num_labels), indicators(predictions, num_labels)
    seen = true.any(axis=0) | given.any(axis=0)
    if not seen.any():
        return 1.0  # no row has a label and none was given one: every decision is right
    if seen.sum() == 1:  # one column is not a multi-label table to scikit-learn
        return float(f1_score(true[:, seen].ravel(), given[:, seen].ravel(), zero_division=0.0))
    return float(f1_score(true[:, seen], given[:, seen], average=average, zero_division=0.0))


def indicators(rows: Sequence[tuple[int, ...]], num_labels: int) -> Any:
    """A table of 0 and 1, ``[rows, num_labels]``."""
    import numpy as np

    table = np.zeros((len(rows), num_labels), dtype=np.int8)
    for row, labels in enumerate(rows):
        table[row, list(labels)] = 1
    return table


def _mean_of_answers(
    scored: Callable[[str, Sequence[str]], float], targets: Sequence[Target], predictions: Sequence[Target]
) -> float:
    """The mean of a score of one answer against all that are right; the empty answer where none was given."""
    pairs = zip(targets, predictions, strict=True)
    return statistics.fmean(
        scored(given[0].text if given else "", [answer.text for answer in right]) for right, given in pairs
    )


def _labels_seen(*columns: Sequence[Target]) -> int:
    indices = (index for column in columns for row in column for index in (row if isinstance(row, tuple) else (row,)))
    return 1 + max(indices, default=-1)


def _correlation(statistic: Callable[..., Any], targets: Sequence[float], predictions: Sequence[float]) -> float:
    if len(targets) < 2 or not all(map(math.isfinite, predictions)):
        return 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SciPy warns of constant input, which is answered below
        value = float(statistic(targets, predictions).statistic)
    return 0.0 if math.isnan(value) else value
