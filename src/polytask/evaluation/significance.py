"""How sure a score is, and whether one set of answers is better than another by more than chance: the bootstrap.

Unusual here: a resample is not a list of rows. Rows with the same target and the same answers are one cell, a
resample is how often each cell was drawn, and every metric is computed from those counts, for all resamples at once.
So a million rows of two labels take no longer than a hundred, and scikit-learn is not called a thousand times; the
tests hold each metric equal to scikit-learn's and SciPy's on the same resamples.

Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 13 and 16.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from polytask.data.metric_names import check_metric
from polytask.data.task import Kind, Target

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

RESAMPLES = 1000
LEVEL = 0.95
_CHUNK = 100


@dataclass(frozen=True)
class Difference:
    """How much better the second of two lists of answers is than the first.

    Attributes:
        difference: the second score less the first.
        low: with ``high``, the 95% interval of the difference.
        p_value: of such a difference where there is none, on either side.
        num_apart: rows that the two answer differently.
    """

    difference: float
    low: float
    high: float
    p_value: float
    num_apart: int

    @property
    def is_more_than_chance(self) -> bool:
        """Whether the difference would come about by chance in less than 5% of such comparisons."""
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
    """The range that holds 95% of the scores over rows drawn anew from these rows.

    Where every answer is right, so it is in every resample, and the interval has no width: it tells nothing of the
    errors that more rows would show.

    Args:
        metric: a name in ``METRICS``; it and the next three as ``polytask.evaluation.metrics.score`` takes them.
        num_labels: how many labels the task has.
        seed: of the draws.

    Raises:
        UnknownName, RecipeError: as ``score``.
    """
    (scores,) = resampled(metric, kind, targets, [predictions], num_labels=num_labels, seed=seed, resamples=resamples)
    return middle(scores)


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
    """Hold two lists of answers to the same rows against each other, on the same resamples.

    The p-value is twice the share of resamples in which the difference lies on the other side of nothing. It is never
    less than that of as many tosses of a coin as there are rows answered differently, because the bootstrap is too
    sure of itself on a handful: five rows, all to the good of one, are not more than chance.

    Arguments and errors are those of ``interval``.
    """
    both = resampled(metric, kind, targets, [first, second], num_labels=num_labels, seed=seed, resamples=resamples)
    differences = both[1] - both[0]
    observed = _observed(metric, kind, targets, second, num_labels) - _observed(
        metric, kind, targets, first, num_labels
    )
    beyond = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    num_apart = sum(one != other for one, other in zip(first, second, strict=True))
    p_value = min(1.0, max(2 * (beyond + 1) / (resamples + 1), 2.0 ** (1 - num_apart)))
    return Difference(observed, *middle(differences), p_value, num_apart)


def resampled(
    metric: str,
    kind: Kind,
    targets: Sequence[Target],
    columns: Sequence[Sequence[Target]],
    *,
    num_labels: int,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> list[Array]:
    """The scores ``[resamples]`` of each column of predictions, all on the same draws of rows."""
    import numpy as np

    check_metric(metric, kind)
    cells, cell_of = distinct(list(zip(targets, *columns, strict=True)))
    own, *given = zip(*cells, strict=True)
    statistics = [_statistic(metric, kind, own, column, num_labels) for column in given]
    parts = [[of(counts) for of in statistics] for counts in draws(cell_of, len(cells), seed, resamples)]
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def distinct(rows: Sequence[tuple[Any, ...]]) -> tuple[list[tuple[Any, ...]], list[int]]:
    """The distinct rows in the order in which they come, and for each row which it is."""
    number: dict[tuple[Any, ...], int] = {}
    which = [number.setdefault(row, len(number)) for row in rows]
    return list(number), which


def draws(cell_of: Sequence[int], num_cells: int, seed: int, resamples: int) -> Iterator[Array]:
    """How often each cell is in a resample of the rows, ``[up to 100, num_cells]`` at a time."""
    import numpy as np

    generator = np.random.default_rng(seed)
    cells, num_rows = np.asarray(cell_of), len(cell_of)
    shares = np.bincount(cells, minlength=num_cells) / num_rows
    for start in range(0, resamples, _CHUNK):
        size = min(_CHUNK, resamples - start)
        if num_cells * 5 < num_rows:
            yield generator.multinomial(num_rows, shares, size=size).astype(np.float64)
        else:  # the same distribution, faster where nearly every row is a cell of its own
            drawn = cells[generator.integers(num_rows, size=(size, num_rows))]
            offsets = np.arange(size)[:, None] * num_cells
            counted = np.bincount((drawn + offsets).ravel(), minlength=size * num_cells)
            yield counted.reshape(size, num_cells).astype(np.float64)


Statistic = Callable[["Array"], "Array"]
"""From counts of cells, ``[R, C]``, to scores, ``[R]``."""


def _statistic(
    metric: str, kind: Kind, targets: Sequence[Target], predictions: Sequence[Target], num_labels: int
) -> Statistic:
    """The metric of cells with these targets and predictions."""
    import numpy as np

    if kind == "span":
        each = [_observed(metric, kind, [right], [given], 0) for right, given in zip(targets, predictions, strict=True)]
        return lambda counts: counts @ np.asarray(each) / counts.sum(axis=1)
    if kind == "regression":
        x, y = np.asarray(targets, dtype=np.float64), np.asarray(predictions, dtype=np.float64)
        if not np.isfinite(y).all():
            return lambda counts: np.zeros(len(counts))
        return (lambda counts: _pearson(counts, x, y)) if metric == "pearson" else (lambda w: _spearman(w, x, y))
    true, given = _indicators(targets, num_labels), _indicators(predictions, num_labels)
    right = true * given
    of = {"accuracy": _accuracy, "matthews": _matthews, "micro_f1": _micro_f1, "macro_f1": _macro_f1}
    of["f1"] = _macro_f1 if num_labels > 2 else _f1
    return lambda counts: of[metric](counts @ true, counts @ given, counts @ right)


def _indicators(answers: Sequence[Target], num_labels: int) -> Array:
    """A 1 for each label of each cell, ``[C, K]``."""
    import numpy as np

    table = np.zeros((len(answers), num_labels))
    for row, answer in enumerate(answers):
        table[row, list(answer) if isinstance(answer, tuple) else answer] = 1.0
    return table


# Of classes: how often each label is the target, was given, and was given rightly, each [R, K].


def _accuracy(true: Array, given: Array, right: Array) -> Array:
    scores: Array = right.sum(axis=1) / true.sum(axis=1)
    return scores


def _f1(true: Array, given: Array, right: Array) -> Array:
    return _share(2 * right[:, 1], true[:, 1] + given[:, 1])


def _micro_f1(true: Array, given: Array, right: Array) -> Array:
    return _share(2 * right.sum(axis=1), true.sum(axis=1) + given.sum(axis=1), of_nothing=1.0)


def _macro_f1(true: Array, given: Array, right: Array) -> Array:
    seen = (true + given > 0).sum(axis=1)
    return _share(_share(2 * right, true + given).sum(axis=1), seen, of_nothing=1.0)


def _matthews(true: Array, given: Array, right: Array) -> Array:
    import numpy as np

    rows = true.sum(axis=1)
    product = right.sum(axis=1) * rows - (true * given).sum(axis=1)
    return _share(product, np.sqrt((rows**2 - (given**2).sum(axis=1)) * (rows**2 - (true**2).sum(axis=1))))


# Of numbers.


def _pearson(counts: Array, x: Array, y: Array) -> Array:
    """Of values ``[C]``, or of other values in each resample, ``[R, C]``."""
    import numpy as np

    rows = counts.sum(axis=1, keepdims=True)
    x = x - (counts * x).sum(axis=1, keepdims=True) / rows
    y = y - (counts * y).sum(axis=1, keepdims=True) / rows
    spread = (counts * x * x).sum(axis=1), (counts * y * y).sum(axis=1)
    is_constant = (_is_constant(counts, x)) | (_is_constant(counts, y))
    return _share(np.where(is_constant, 0.0, (counts * x * y).sum(axis=1)), np.sqrt(spread[0] * spread[1]))


def _is_constant(counts: Array, values: Array) -> Any:
    import numpy as np

    drawn = counts > 0
    return np.where(drawn, values, -np.inf).max(axis=1) == np.where(drawn, values, np.inf).min(axis=1)


def _spearman(counts: Array, x: Array, y: Array) -> Array:
    return _pearson(counts, _ranks(counts, x), _ranks(counts, y))


def _ranks(counts: Array, values: Array) -> Array:
    """The mean rank of each cell's value in each resample, ``[R, C]``."""
    import numpy as np

    _, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(group.max() + 1))
    in_group = np.add.reduceat(counts[:, order], starts, axis=1)
    ranks: Array = np.cumsum(in_group, axis=1) - (in_group - 1) / 2
    return ranks[:, group]


def _share(part: Any, whole: Any, of_nothing: float = 0.0) -> Array:
    import numpy as np

    shares: Array = np.divide(part, whole, out=np.full(np.shape(part), of_nothing), where=np.asarray(whole) != 0)
    return shares


def _observed(
    metric: str, kind: Kind, targets: Sequence[Target], predictions: Sequence[Target], num_labels: int
) -> float:
    from polytask.evaluation.metrics import score

    return score(metric, kind, targets, predictions, num_labels=num_labels)


def middle(scores: Array) -> tuple[float, float]:
    """What is left without the outer 2.5% on either side; outwards where that falls between two resamples."""
    import numpy as np

    low = np.quantile(scores, (1 - LEVEL) / 2, method="lower")
    high = np.quantile(scores, (1 + LEVEL) / 2, method="higher")
    return float(low), float(high)
