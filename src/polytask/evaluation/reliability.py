"""Measures how reliable probabilities are: expected calibration error, Brier score and the reliability diagram.

* Expected calibration error (Naeini 2015, Guo 2017): probabilities are put into 15 bins of equal width. The error is
  the mean difference, over the bins, between the mean probability and the share that is right. A classification counts
  the likeliest class of each row, a multi-label task every label of every row. On few rows it is above 0 by chance.
* Brier score (1950): the mean squared distance between probabilities and truth: the sum over the classes of a
  classification (0 to 2), the mean over the labels of a multi-label task (0 to 1).

Both have an interval from 1,000 resamples of the rows (``polytask.evaluation.significance``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from polytask.data.task import Kind, Target
from polytask.evaluation.calibration import Conformal
from polytask.evaluation.significance import RESAMPLES, percentile_interval, resample_counts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

NUM_BINS = 15


@dataclass(frozen=True)
class Estimate:
    """A number and its 95% interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Bin:
    """A bin of probabilities: its number of rows, their mean probability, and the share that is right."""

    rows: int
    probability: float
    right: float


@dataclass(frozen=True)
class Reliability:
    """The two errors of some probabilities, and the non-empty bins of their reliability diagram."""

    ece: Estimate
    brier: Estimate
    bins: tuple[Bin, ...]

    def to_json(self) -> dict[str, Any]:
        """Each error as ``[value, low, high]``, and each bin as ``[rows, probability, right]``."""
        shown = {name: [of.value, of.low, of.high] for name, of in (("ece", self.ece), ("brier", self.brier))}
        return {**shown, "bins": [[of.rows, round(of.probability, 6), round(of.right, 6)] for of in self.bins]}


def reliability(kind: Kind, probs: Sequence[Sequence[float]], targets: Sequence[Target]) -> Reliability:
    """Measure the probabilities ``[N, K]`` of a classification or a multi-label task."""
    import numpy as np

    table = np.asarray(probs, dtype=np.float64)
    truth = np.zeros_like(table)
    for row, target in enumerate(targets):
        truth[row, list(target) if isinstance(target, tuple) else target] = 1.0
    if kind == "classification":
        likeliest = table.argmax(axis=1)
        given, right = table.max(axis=1)[:, None], np.take_along_axis(truth, likeliest[:, None], axis=1)
        brier = ((table - truth) ** 2).sum(axis=1)
    else:
        given, right, brier = table, truth, ((table - truth) ** 2).mean(axis=1)
    filled, sums, hits = binned(given, right)
    parts = [
        (_ece(counts, filled, sums, hits), counts @ brier / len(brier))
        for counts in resample_counts(range(len(table)), len(table), 0, RESAMPLES)
    ]
    eces, errors = (np.concatenate(column) for column in zip(*parts, strict=True))
    ece = Estimate(float(_ece(np.ones((1, len(table))), filled, sums, hits)[0]), *percentile_interval(eces))
    error = Estimate(float(brier.mean()), *percentile_interval(errors))
    totals = zip(filled.sum(axis=0), sums.sum(axis=0), hits.sum(axis=0))
    bins = (Bin(int(n), float(p / n), float(r / n)) for n, p, r in totals if n)
    return Reliability(ece, error, tuple(bins))


def binned(given: Array, right: Array) -> tuple[Array, Array, Array]:
    """For each row and bin, ``[N, 15]``: the number of answers, the sum of their probabilities, the number right."""
    import numpy as np

    which = np.minimum((given * NUM_BINS).astype(int), NUM_BINS - 1)
    rows = np.repeat(np.arange(len(given)), given.shape[1])
    tables = np.zeros((3, len(given), NUM_BINS))
    for table, weights in zip(tables, (np.ones_like(given), given, right)):
        np.add.at(table, (rows, which.ravel()), weights.ravel())
    return tables[0], tables[1], tables[2]


def _ece(counts: Array, filled: Array, sums: Array, hits: Array) -> Array:
    """The error of each resample, ``[R]``, from the number of times it takes each row, ``[R, N]``."""
    import numpy as np

    apart: Array = np.abs(counts @ sums - counts @ hits).sum(axis=1) / (counts @ filled).sum(axis=1)
    return apart


def coverage(calibration: Conformal, scores: Sequence[Sequence[float]], targets: Sequence[float]) -> dict[str, Any]:
    """The share of numbers within their interval, with its own 95% interval (Wilson), and the interval's width."""
    within = sum(abs(target - row[0]) <= calibration.radius for row, target in zip(scores, targets, strict=True))
    return {"level": calibration.level, "coverage": share(within, len(targets)), "width": 2 * calibration.radius}


def share(hits: int, rows: int) -> list[float] | None:
    """A share and the ends of its 95% interval (Wilson); None without rows."""
    from scipy.stats import binomtest

    if not rows:
        return None
    interval = binomtest(hits, rows).proportion_ci(0.95, method="wilson")
    return [hits / rows, float(interval.low), float(interval.high)]
