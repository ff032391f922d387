"""Confident learning: finds rows whose label is probably wrong, from the probabilities of a model.

The model must not have been trained on these rows. A row counts as label ``j`` if its probability of ``j`` is at least
the mean probability of ``j`` over the rows with that label. This accounts for a model that is over- or underconfident
about a label. Rows that count as another label than their own are suspects.

Source: Northcutt, Jiang and Chuang, Confident Learning: Estimating Uncertainty in Dataset Labels, JAIR 2021,
arXiv:1911.00068, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


@dataclass(frozen=True)
class Suspect:
    """A row whose label is probably wrong.

    Attributes:
        row: its index.
        given: the index of its label.
        likely: the index of the label that it probably should have.
        margin: the probability of ``likely`` minus that of ``given``.
    """

    row: int
    given: int
    likely: int
    margin: float


@dataclass(frozen=True)
class LabelErrors:
    """Suspects, and how labels are confused.

    Attributes:
        joint: the estimated joint distribution of given and true labels, ``[K][K]``; it sums to 1.
        suspects: the suspects, largest margin first.
    """

    joint: tuple[tuple[float, ...], ...]
    suspects: tuple[Suspect, ...]

    @property
    def share(self) -> float:
        """The estimated share of rows with a wrong label: what is off the diagonal of the joint."""
        return 1.0 - sum(row[label] for label, row in enumerate(self.joint))


def find_label_errors(probs: Sequence[Sequence[float]], labels: Sequence[int]) -> LabelErrors:
    """Find rows whose label is probably wrong.

    Args:
        probs: the probability of each label, ``[N, K]``.
        labels: the index of each row's given label, ``[N]``.
    """
    import numpy as np

    table, given = np.asarray(probs, dtype=np.float64), np.asarray(labels)
    is_likely = table >= _thresholds(table, given)
    likely = np.where(is_likely, table, -1.0).argmax(axis=1)
    is_confident = is_likely.any(axis=1)
    counts = np.zeros((table.shape[1],) * 2)
    np.add.at(counts, (given[is_confident], likely[is_confident]), 1)
    margins = np.take_along_axis(table, np.stack([likely, given], axis=1), axis=1) @ (1.0, -1.0)
    rows = np.flatnonzero(is_confident & (likely != given) & (margins > 0))
    order = rows[np.argsort(-margins[rows], kind="stable")]
    suspects = (Suspect(int(row), int(given[row]), int(likely[row]), float(margins[row])) for row in order)
    return LabelErrors(tuple(map(tuple, _joint(counts, given).tolist())), tuple(suspects))


def _thresholds(table: Array, given: Array) -> Array:
    """The mean probability of each label over the rows that carry it, ``[K]``; infinite if none does."""
    import numpy as np

    own = (table[given == label, label] for label in range(table.shape[1]))
    return np.array([column.mean() if len(column) else np.inf for column in own])


def _joint(counts: Array, given: Array) -> Array:
    """The counts of confident rows, scaled so that each given label has its share of all rows (equation 3)."""
    import numpy as np

    of_label = np.bincount(given, minlength=len(counts))
    totals = counts.sum(axis=1)
    scale = np.divide(of_label, totals, out=np.zeros(len(counts)), where=totals > 0)
    joint: Array = counts * scale[:, None] / len(given)
    return joint
