"""Fits a head on fixed vectors with scikit-learn: logistic regression for labels, ridge regression for numbers.

Vectors are centred and divided by the root of their mean variance; this is then folded into the head, which takes the
original vectors. The regularisation is chosen by cross-validation on the training rows, by the log loss, which is
smoother than accuracy on few rows.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from polytask.data.task import Kind, Target

Array = Any
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Values of scikit-learn's ``C``; for ridge regression, ``alpha`` is the inverse."""
USUAL_STRENGTH = 0.1
"""The strength if there are too few rows for cross-validation."""
FOLDS = 5
MOST_CHOOSING_ROWS = 2000
"""At most this many rows choose the strength; all rows are used to fit."""
ABSENT = 10.0
"""The bias of a label without training rows is this far below the lowest bias of the others."""


@dataclass(frozen=True)
class LinearProbe:
    """A fitted head: ``weight`` ``[K, D]``, ``bias`` ``[K]``, and the ``strength`` that was chosen."""

    weight: Array
    bias: Array
    strength: float


def fit_probe(
    kind: Kind,
    vectors: Array,
    targets: Sequence[Target],
    num_outputs: int,
    owners: Sequence[int] | None = None,
    class_weights: str | None = None,
) -> LinearProbe:
    """Fit a head on vectors.

    Args:
        kind: ``classification``, ``multilabel`` or ``regression``.
        vectors: ``[N, D]``, one for each text.
        targets: the target of each text.
        num_outputs: the outputs of the head, ``K``.
        owners: the row of each text, if rows were split into windows. A row's windows stay in one fold.
        class_weights: as in ``Recipe``.
    """
    import numpy as np

    x = np.asarray(vectors, dtype=np.float64)
    centre, scale = x.mean(axis=0), float(np.sqrt(x.var(axis=0).mean())) or 1.0
    x = (x - centre) / scale
    rows = np.arange(len(x)) if owners is None else np.asarray(owners)
    if kind == "regression":
        weight, bias, strength = _ridge(x, np.asarray(targets, dtype=np.float64))
    elif kind == "multilabel":
        weight, bias, strength = _one_per_label(x, targets, num_outputs, rows)
    else:
        weight, bias, strength = _logistic(x, np.asarray(targets), num_outputs, rows, class_weights)
    weight = weight / scale
    return LinearProbe(weight, bias - weight @ centre, strength)


def _ridge(x: Array, y: Array) -> tuple[Array, Array, float]:
    import numpy as np
    from sklearn.linear_model import RidgeCV

    model = RidgeCV(alphas=[1 / strength for strength in STRENGTHS]).fit(x, y)
    return model.coef_[None, :], np.atleast_1d(model.intercept_), 1 / float(model.alpha_)


def _one_per_label(x: Array, targets: Sequence[Any], num_labels: int, rows: Array) -> tuple[Array, Array, float]:
    """A logistic regression for each label; a label that all rows or no rows have gets a constant."""
    import numpy as np

    weight, bias, strengths = np.zeros((num_labels, x.shape[1])), np.zeros(num_labels), []
    for label in range(num_labels):
        held = np.array([label in target for target in targets], dtype=int)
        if held.min() == held.max():
            bias[label] = ABSENT if held[0] else -ABSENT
            continue
        both, offsets, strength = _logistic(x, held, 2, rows, None)
        weight[label], bias[label] = both[1] - both[0], offsets[1] - offsets[0]
        strengths.append(strength)
    return weight, bias, float(np.median(strengths)) if strengths else USUAL_STRENGTH


def _logistic(
    x: Array, y: Array, num_labels: int, rows: Array, class_weights: str | None
) -> tuple[Array, Array, float]:
    """Weights and biases of a softmax over all labels."""
    import numpy as np

    if len(set(y.tolist())) == 1:  # nothing to tell apart
        bias = np.full(num_labels, -ABSENT)
        bias[y[0]] = 0.0
        return np.zeros((num_labels, x.shape[1])), bias, USUAL_STRENGTH
    weighting = "balanced" if class_weights == "balanced" else None
    strength = _best_strength(x, y, rows, weighting)
    model = _fitted(x, y, strength, weighting)
    coefficients, intercepts = model.coef_, model.intercept_
    if len(coefficients) == 1:  # for two classes scikit-learn returns the difference
        coefficients, intercepts = (np.concatenate([-own / 2, own / 2]) for own in (coefficients, intercepts))
    if class_weights == "logit-adjusted":
        intercepts = intercepts - np.log([np.mean(y == label) for label in model.classes_])
    weight, bias = np.zeros((num_labels, x.shape[1])), np.full(num_labels, intercepts.min() - ABSENT)
    weight[model.classes_], bias[model.classes_] = coefficients, intercepts
    return weight, bias, strength


def _fitted(x: Array, y: Array, strength: float, weighting: str | None) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the largest C on separable rows; it is not chosen then
        warnings.filterwarnings("ignore", message="The number of unique classes")  # many labels with few rows are fine
        return LogisticRegression(C=strength, class_weight=weighting, max_iter=1000).fit(x, y)


def _best_strength(x: Array, y: Array, rows: Array, weighting: str | None) -> float:
    """The strength with the least log loss on held-out rows."""
    import numpy as np

    x, y, rows = x[:MOST_CHOOSING_ROWS], y[:MOST_CHOOSING_ROWS], rows[:MOST_CHOOSING_ROWS]
    fold = _folds(y, rows)
    if fold is None:
        return USUAL_STRENGTH
    losses = [
        np.mean([_log_loss(x, y, fold == number, strength, weighting) for number in range(FOLDS)])
        for strength in STRENGTHS
    ]
    return STRENGTHS[int(np.argmin(losses))]


def _folds(y: Array, rows: Array) -> Array | None:
    """The fold of each text; -1 if it is always trained on, because its class has fewer rows than there are folds."""
    import numpy as np
    from sklearn.model_selection import StratifiedKFold

    _, first = np.unique(rows, return_index=True)
    label_of_row = y[first]
    labels, counts = np.unique(label_of_row, return_counts=True)
    able = np.flatnonzero(np.isin(label_of_row, labels[counts >= FOLDS]))
    if len(set(label_of_row[able])) < 2:
        return None
    of_row = np.full(len(first), -1)
    splits = StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(able[:, None], label_of_row[able])
    for number, (_, held_out) in enumerate(splits):
        of_row[able[held_out]] = number
    return of_row[np.unique(rows, return_inverse=True)[1]]


def _log_loss(x: Array, y: Array, is_out: Array, strength: float, weighting: str | None) -> float:
    import numpy as np

    model = _fitted(x[~is_out], y[~is_out], strength, weighting)
    logs = model.predict_log_proba(x[is_out])
    own = logs[np.arange(len(logs)), np.searchsorted(model.classes_, y[is_out])]
    return float(-np.maximum(own, -30.0).mean())
