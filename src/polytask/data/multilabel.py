"""Multi-label targets as scikit-learn and pandas hold them: an indicator matrix, or a list of labels for each row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from polytask.errors import DataError

_SETS = (list, tuple, set, frozenset, np.ndarray)


@dataclass(frozen=True)
class LabelSets:
    """The labels of each row.

    Attributes:
        classes: all labels, ``[K]``: the columns of a DataFrame, the numbers of the columns of another matrix, or the
            sorted labels of lists.
        rows: for each row the indices of its labels, ascending.
    """

    classes: np.ndarray
    rows: tuple[tuple[int, ...], ...]

    def in_order_of(self, classes: np.ndarray) -> np.ndarray:
        """Return an indicator matrix ``[B, K]`` with one column for each of these classes.

        Raises:
            DataError: a row has a label that is not one of them.
        """
        at = {label: column for column, label in enumerate(classes.tolist())}
        unknown = [label for label in self.classes.tolist() if label not in at]
        if unknown:
            raise DataError(f"y has the label {unknown[0]!r}, which the training rows did not have")
        columns = [at[label] for label in self.classes.tolist()]
        return indicator([[columns[index] for index in row] for row in self.rows], len(classes))


def indicator(rows: Sequence[Sequence[int]], num_labels: int) -> np.ndarray:
    """Return the matrix ``[B, K]`` with a 1 for each label of a row."""
    matrix = np.zeros((len(rows), num_labels), dtype=np.int64)
    for row, labels in enumerate(rows):
        matrix[row, list(labels)] = 1
    return matrix


def label_sets(y: Any) -> LabelSets | None:
    """Read the labels of each row; None if ``y`` holds one label per row.

    Args:
        y: an indicator matrix ``[B, K]`` of zeros and ones (array, DataFrame, sparse matrix, list of lists), or a list,
            Series or array of lists of labels, which may be empty.

    Raises:
        DataError: there are no labels, or labels of types that cannot be sorted.
    """
    if (matrix := _matrix(y)) is not None:
        names = np.asarray(y.columns) if hasattr(y, "columns") else np.arange(matrix.shape[1])
        return LabelSets(names, tuple(tuple(np.flatnonzero(row).tolist()) for row in matrix))
    rows = list(y) if isinstance(y, list | tuple) or getattr(y, "ndim", 0) == 1 else []
    if not rows or not all(isinstance(row, _SETS) for row in rows):
        return None
    try:
        labels = sorted({label for row in rows for label in row})
    except TypeError:
        raise DataError("y has labels of several types", fix="Use strings only, or numbers only") from None
    if not labels:
        raise DataError("no row has a label", fix="y needs at least one label in some row")
    at = {label: index for index, label in enumerate(labels)}
    return LabelSets(np.asarray(labels), tuple(tuple(sorted({at[label] for label in row})) for row in rows))


def _matrix(y: Any) -> np.ndarray | None:
    """``y`` as a matrix of zeros and ones with at least two columns; None if it is not one."""
    whole = y.toarray() if hasattr(y, "toarray") else y
    is_nested = (
        isinstance(whole, list | tuple) and len({len(row) if isinstance(row, list) else -1 for row in whole}) == 1
    )
    if not is_nested and getattr(whole, "ndim", 0) != 2:
        return None
    matrix = np.asarray(whole)
    if matrix.ndim != 2 or matrix.shape[1] < 2 or matrix.dtype.kind not in "biuf" or not np.isin(matrix, (0, 1)).all():
        return None
    return matrix
