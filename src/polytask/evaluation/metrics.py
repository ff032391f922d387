"""Metrics, one function each, computed by scikit-learn, SciPy or, for spans, SQuAD's official scorer.

Higher is better for all of them. Targets and predictions have the form of ``Rows.targets``: label indices, tuples of
label indices, scores, or tuples of ``Answer``. A target has all correct answers, a prediction the given one.

Two conventions differ from the libraries. A correlation with constant or non-finite predictions is undefined and
counts as 0.0. ``f1`` is the F1 of the label with index 1 if a task has two labels, and ``macro_f1`` if it has more.
"""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from polytask.data.metric_names import check_metric, metrics_for
from polytask.data.task import Kind, Target

Metric = Callable[[Sequence[Target], Sequence[Target], int], float]
"""A function of targets, predictions and the number of labels that returns a score."""


def accuracy(targets: Sequence[int], predictions: Sequence[int], num_labels: int) -> float:
    """The share of correct rows."""
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(targets, predictions))


def f1(targets: Sequence[int], predictions: Sequence[int], num_labels: int) -> float:
    """F1 of the label with index 1 if there are two labels, else the mean over the labels."""
    from sklearn.metrics import f1_score

    if num_labels > 2:
        return macro_f1(targets, predictions, num_labels)
    return float(f1_score(targets, predictions, pos_label=1, average="binary", zero_division=0.0))


def micro_f1(targets: Sequence[Target], predictions: Sequence[Target], num_labels: int) -> float:
    """F1 over the pooled decisions for all labels."""
    return _average_f1(targets, predictions, num_labels, "micro")


def macro_f1(targets: Sequence[Target], predictions: Sequence[Target], num_labels: int) -> float:
    """The unweighted mean F1 of the labels that occur in targets or predictions."""
    return _average_f1(targets, predictions, num_labels, "macro")


def matthews(targets: Sequence[int], predictions: Sequence[int], num_labels: int) -> float:
    """Matthews correlation coefficient; 0.0 if all targets or all predictions are equal."""
    from sklearn.metrics import matthews_corrcoef

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns about a single label, which scores 0.0
        return float(matthews_corrcoef(targets, predictions))


def pearson(targets: Sequence[float], predictions: Sequence[float], num_labels: int) -> float:
    """Pearson correlation; 0.0 if it is undefined."""
    from scipy.stats import pearsonr

    return _correlation(pearsonr, targets, predictions)


def spearman(targets: Sequence[float], predictions: Sequence[float], num_labels: int) -> float:
    """Spearman rank correlation; 0.0 if it is undefined."""
    from scipy.stats import spearmanr

    return _correlation(spearmanr, targets, predictions)


def span_f1(targets: Sequence[Target], predictions: Sequence[Target], num_labels: int) -> float:
    """SQuAD's F1 over the words of an answer, averaged over questions."""
    from polytask.suites import squad

    return _mean_over_questions(squad.f1, targets, predictions)


def exact_match(targets: Sequence[Target], predictions: Sequence[Target], num_labels: int) -> float:
    """The share of questions with a correct answer, ignoring case, punctuation and articles."""
    from polytask.suites import squad

    return _mean_over_questions(squad.exact_match, targets, predictions)


METRICS: dict[str, Metric] = {
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
    """Score predictions by a metric.

    Args:
        metric: a name in ``METRICS``.
        kind: the kind of task.
        targets: the correct answers, one per row, in the form of ``Rows.targets``.
        predictions: the predictions, in the same form and order.
        num_labels: the number of labels (default: the highest index that occurs, plus one). Only ``f1`` needs it, to
            tell two labels from more.

    Returns:
        A score in [0, 1]; correlations are in [-1, 1].

    Raises:
        UnknownName: there is no such metric.
        RecipeError: the metric does not fit the kind.
    """
    check_metric(metric, kind)
    assert len(targets) == len(predictions), f"{len(targets)} targets, {len(predictions)} predictions"
    assert len(targets) > 0, "no rows to score"
    if num_labels is None:
        num_labels = _infer_num_labels(targets, predictions) if kind in ("classification", "multilabel") else 0
    return METRICS[metric](targets, predictions, num_labels)


def all_scores(
    kind: Kind,
    targets: Sequence[Target],
    predictions: Sequence[Target],
    *,
    num_labels: int | None = None,
) -> dict[str, float]:
    """Score by every metric that fits this kind of task, the default first. Arguments are those of ``score``."""
    return {name: score(name, kind, targets, predictions, num_labels=num_labels) for name in metrics_for(kind)}


def distinct(metrics: Mapping[str, float], kind: Kind, num_labels: int, metric: str) -> dict[str, float]:
    """Remove metrics that are equal by definition, always keeping ``metric``.

    In a classification, ``micro_f1`` equals ``accuracy``, and ``f1`` of more than two labels equals ``macro_f1``.

    Args:
        metrics: scores by metric.
        kind: the kind of task.
        num_labels: the number of labels.
        metric: the task's metric.
    """
    twins = (
        {"micro_f1": "accuracy", **({"f1": "macro_f1"} if num_labels > 2 else {})} if kind == "classification" else {}
    )
    doubles = {twins[name] if name == metric else name for name in twins}
    return {name: value for name, value in metrics.items() if name not in doubles or name == metric}


def _average_f1(targets: Sequence[Target], predictions: Sequence[Target], num_labels: int, average: str) -> float:
    from sklearn.metrics import f1_score

    if not isinstance(targets[0], tuple):
        return float(f1_score(targets, predictions, average=average, zero_division=0.0))
    true, given = indicators(targets, num_labels), indicators(predictions, num_labels)
    seen = true.any(axis=0) | given.any(axis=0)
    if not seen.any():
        return 1.0  # neither targets nor predictions have a label: every decision is correct
    if seen.sum() == 1:  # scikit-learn does not treat one column as multi-label
        return float(f1_score(true[:, seen].ravel(), given[:, seen].ravel(), zero_division=0.0))
    return float(f1_score(true[:, seen], given[:, seen], average=average, zero_division=0.0))


def indicators(answers: Sequence[int | tuple[int, ...]], num_labels: int) -> Any:
    """Return a 1 for each label of each answer and 0 elsewhere, int8, ``[rows, num_labels]``."""
    import numpy as np

    table = np.zeros((len(answers), num_labels), dtype=np.int8)
    for row, answer in enumerate(answers):
        table[row, list(answer) if isinstance(answer, tuple) else answer] = 1
    return table


def _mean_over_questions(
    score_answer: Callable[[str, Sequence[str]], float], targets: Sequence[Target], predictions: Sequence[Target]
) -> float:
    """Average the score of each predicted answer against all correct ones; no prediction is the empty answer."""
    pairs = zip(targets, predictions, strict=True)
    return statistics.fmean(
        score_answer(given[0].text if given else "", [answer.text for answer in correct]) for correct, given in pairs
    )


def _infer_num_labels(*columns: Sequence[Target]) -> int:
    indices = (index for column in columns for row in column for index in (row if isinstance(row, tuple) else (row,)))
    return 1 + max(indices, default=-1)


def _correlation(statistic: Callable[..., Any], targets: Sequence[float], predictions: Sequence[float]) -> float:
    if len(targets) < 2 or not all(map(math.isfinite, predictions)):
        return 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SciPy warns about constant input, which gives 0.0 below
        value = float(statistic(targets, predictions).statistic)
    return 0.0 if math.isnan(value) else value
