"""Confidence intervals of scores and of differences, and significance tests between two sets of predictions.

For predictions they are computed by the bootstrap. A resample is not a list of rows. Rows with the same target and
predictions form one cell, a resample is a count for each cell, and metrics are computed from these counts for all
resamples at once. So the time depends on the number of different cells instead of rows. The tests check each metric
against scikit-learn and SciPy on the same resamples.

Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 13 and 16.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from polytask.data.metric_names import check_metric
from polytask.data.task import Kind, Target
from polytask.evaluation.metrics import indicators, score

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

RESAMPLES = 1000
LEVEL = 0.95
_CHUNK_RESAMPLES = 100


@dataclass(frozen=True)
class Difference:
    """The difference between the scores of two sets of predictions.

    Attributes:
        difference: the second score minus the first.
        low: the lower end of the difference's 95% interval.
        high: its upper end.
        p_value: the two-sided p-value of the difference.
        num_apart: the number of rows with different predictions.
    """

    difference: float
    low: float
    high: float
    p_value: float
    num_apart: int

    @property
    def is_more_than_chance(self) -> bool:
        """Whether the difference is significant at the 5% level."""
        return self.p_value < 1 - LEVEL


def bootstrap_interval(
    metric: str,
    kind: Kind,
    targets: Sequence[Target],
    predictions: Sequence[Target],
    *,
    num_labels: int,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> tuple[float, float]:
    """Return the 95% bootstrap interval of a score.

    If every prediction is correct, it is so in every resample, and the interval has width 0; it then says nothing
    about the errors that more rows would show.

    Args:
        metric: this and the next three arguments are those of ``polytask.evaluation.metrics.score``.
        kind: likewise.
        targets: likewise.
        predictions: likewise.
        num_labels: the number of labels.
        seed: the seed of the resamples.
        resamples: the number of resamples.

    Returns:
        The lower and the upper end.

    Raises:
        UnknownName, RecipeError: as ``score``.
    """
    (scores,) = bootstrap_scores(
        metric, kind, targets, [predictions], num_labels=num_labels, seed=seed, resamples=resamples
    )
    return percentile_interval(scores)


def paired_test(
    metric: str,
    kind: Kind,
    targets: Sequence[Target],
    first: Sequence[Target],
    second: Sequence[Target],
    *,
    num_labels: int,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Difference:
    """Compare two sets of predictions for the same rows, on the same resamples (a paired bootstrap test).

    The p-value is twice the share of resamples in which the difference is zero or has the other sign. It is at least
    that of a sign test in which all rows with different predictions favour one side, because the bootstrap is
    overconfident with few such rows: five rows in favour of one side are not significant.

    Arguments and errors are those of ``bootstrap_interval``, with ``first`` and ``second`` as the predictions.
    """
    both = bootstrap_scores(
        metric, kind, targets, [first, second], num_labels=num_labels, seed=seed, resamples=resamples
    )
    differences = both[1] - both[0]
    before, after = (score(metric, kind, targets, own, num_labels=num_labels) for own in (first, second))
    beyond = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    num_apart = sum(one != other for one, other in zip(first, second, strict=True))
    p_value = min(1.0, max(2 * (beyond + 1) / (resamples + 1), 2.0 ** (1 - num_apart)))
    return Difference(after - before, *percentile_interval(differences), p_value, num_apart)


def bootstrap_scores(
    metric: str,
    kind: Kind,
    targets: Sequence[Target],
    columns: Sequence[Sequence[Target]],
    *,
    num_labels: int,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> list[Array]:
    """Return the scores ``[resamples]`` of each set of predictions in ``columns``, all on the same resamples."""
    import numpy as np

    check_metric(metric, kind)
    cells, cell_of = distinct_rows(list(zip(targets, *columns, strict=True)))
    own, *given = zip(*cells, strict=True)
    statistics = [_metric_of_counts(metric, kind, own, column, num_labels) for column in given]
    parts = [[of(counts) for of in statistics] for counts in resample_counts(cell_of, len(cells), seed, resamples)]
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def distinct_rows(rows: Sequence[tuple[Any, ...]]) -> tuple[list[tuple[Any, ...]], list[int]]:
    """Return the distinct rows in order of appearance, and for each row the index of its distinct row."""
    number: dict[tuple[Any, ...], int] = {}
    which = [number.setdefault(row, len(number)) for row in rows]
    return list(number), which


def resample_counts(cell_of: Sequence[int], num_cells: int, seed: int, resamples: int) -> Iterator[Array]:
    """Yield the counts of each cell in resamples of the rows, ``[at most 100, num_cells]`` at a time."""
    import numpy as np

    generator = np.random.default_rng(seed)
    cells, num_rows = np.asarray(cell_of), len(cell_of)
    shares = np.bincount(cells, minlength=num_cells) / num_rows
    for start in range(0, resamples, _CHUNK_RESAMPLES):
        size = min(_CHUNK_RESAMPLES, resamples - start)
        if num_cells * 5 < num_rows:
            yield generator.multinomial(num_rows, shares, size=size).astype(np.float64)
        else:  # the same distribution, faster with nearly as many cells as rows
            drawn = cells[generator.integers(num_rows, size=(size, num_rows))]
            offsets = np.arange(size)[:, None] * num_cells
            counted = np.bincount((drawn + offsets).ravel(), minlength=size * num_cells)
            yield counted.reshape(size, num_cells).astype(np.float64)


Statistic = Callable[["Array"], "Array"]
"""A function of cell counts, ``[R, C]``, that returns scores, ``[R]``, for R resamples of C cells."""


def _metric_of_counts(
    metric: str, kind: Kind, targets: Sequence[Target], predictions: Sequence[Target], num_labels: int
) -> Statistic:
    """Return the metric as a function of the counts of cells with these targets and predictions."""
    import numpy as np

    if kind == "span":
        each = [score(metric, kind, [target], [given]) for target, given in zip(targets, predictions, strict=True)]
        return lambda counts: counts @ np.asarray(each) / counts.sum(axis=1)
    if kind == "regression":
        x, y = np.asarray(targets, dtype=np.float64), np.asarray(predictions, dtype=np.float64)
        if not np.isfinite(y).all():
            return lambda counts: np.zeros(len(counts))
        return (lambda counts: _pearson(counts, x, y)) if metric == "pearson" else (lambda w: _spearman(w, x, y))
    true, given = (indicators(own, num_labels).astype(np.float64) for own in (targets, predictions))
    right = true * given
    of = {"accuracy": _accuracy, "matthews": _matthews, "micro_f1": _micro_f1, "macro_f1": _macro_f1}
    of["f1"] = _macro_f1 if num_labels > 2 else _f1
    return lambda counts: of[metric](counts @ true, counts @ given, counts @ right)


# Classification metrics, from counts by label, each [R, K]: rows with the label, predicted rows, correct predictions.


def _accuracy(true: Array, given: Array, right: Array) -> Array:
    scores: Array = right.sum(axis=1) / true.sum(axis=1)
    return scores


def _f1(true: Array, given: Array, right: Array) -> Array:
    return _divide(2 * right[:, 1], true[:, 1] + given[:, 1])


def _micro_f1(true: Array, given: Array, right: Array) -> Array:
    return _divide(2 * right.sum(axis=1), true.sum(axis=1) + given.sum(axis=1), if_zero=1.0)


def _macro_f1(true: Array, given: Array, right: Array) -> Array:
    seen = (true + given > 0).sum(axis=1)
    return _divide(_divide(2 * right, true + given).sum(axis=1), seen, if_zero=1.0)


def _matthews(true: Array, given: Array, right: Array) -> Array:
    import numpy as np

    rows = true.sum(axis=1)
    product = right.sum(axis=1) * rows - (true * given).sum(axis=1)
    return _divide(product, np.sqrt((rows**2 - (given**2).sum(axis=1)) * (rows**2 - (true**2).sum(axis=1))))


# Correlations.


def _pearson(counts: Array, x: Array, y: Array) -> Array:
    """Pearson correlation of values ``[C]``, or of values that differ by resample, ``[R, C]``."""
    import numpy as np

    rows = counts.sum(axis=1, keepdims=True)
    x = x - (counts * x).sum(axis=1, keepdims=True) / rows
    y = y - (counts * y).sum(axis=1, keepdims=True) / rows
    spread = (counts * x * x).sum(axis=1), (counts * y * y).sum(axis=1)
    is_constant = (_is_constant(counts, x)) | (_is_constant(counts, y))
    return _divide(np.where(is_constant, 0.0, (counts * x * y).sum(axis=1)), np.sqrt(spread[0] * spread[1]))


def _is_constant(counts: Array, values: Array) -> Any:
    import numpy as np

    drawn = counts > 0
    return np.where(drawn, values, -np.inf).max(axis=1) == np.where(drawn, values, np.inf).min(axis=1)


def _spearman(counts: Array, x: Array, y: Array) -> Array:
    return _pearson(counts, _ranks(counts, x), _ranks(counts, y))


def _ranks(counts: Array, values: Array) -> Array:
    """Return the mean rank of each cell's value in each resample, ``[R, C]``."""
    import numpy as np

    _, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(group.max() + 1))
    in_group = np.add.reduceat(counts[:, order], starts, axis=1)
    ranks: Array = np.cumsum(in_group, axis=1) - (in_group - 1) / 2
    return ranks[:, group]


def _divide(part: Any, whole: Any, if_zero: float = 0.0) -> Array:
    """Return ``part / whole``, or ``if_zero`` where ``whole`` is 0."""
    import numpy as np

    shares: Array = np.divide(part, whole, out=np.full(np.shape(part), if_zero), where=np.asarray(whole) != 0)
    return shares


def percentile_interval(scores: Array) -> tuple[float, float]:
    """Return the 2.5% and 97.5% percentiles, rounded outwards to a resample."""
    import numpy as np

    low = np.quantile(scores, (1 - LEVEL) / 2, method="lower")
    high = np.quantile(scores, (1 + LEVEL) / 2, method="higher")
    return float(low), float(high)


def student_interval(differences: Sequence[float]) -> tuple[float, float] | None:
    """Return Student's 95% interval of the mean of paired differences; None for a single one."""
    from scipy import stats

    if len(differences) < 2:
        return None
    mean = fmean(differences)
    reach = float(stats.sem(differences) * stats.t.ppf((1 + LEVEL) / 2, len(differences) - 1))
    return mean - reach, mean + reach


def nested_bootstrap_interval(groups: Sequence[Sequence[float]], resamples: int = 10_000) -> tuple[float, float]:
    """Return the 95% bootstrap interval of the mean over groups of the means of their values.

    A resample draws groups (tasks) with replacement, and the values (seeds) of each of them with replacement.
    """
    import numpy as np

    draw = np.random.default_rng(0)
    counts = np.array([len(own) for own in groups])
    padded_GV = np.array([[*own, *[0.0] * (counts.max() - len(own))] for own in groups])
    groups_RG = draw.integers(len(counts), size=(resamples, len(counts)))
    counts_RG1 = counts[groups_RG][..., None]
    values_RGV = (draw.random((*groups_RG.shape, counts.max())) * counts_RG1).astype(int)
    drawn_RGV = np.where(np.arange(counts.max()) < counts_RG1, padded_GV[groups_RG[..., None], values_RGV], 0.0)
    return percentile_interval((drawn_RGV.sum(axis=2) / counts[groups_RG]).mean(axis=1))
