"""Fitting a calibration on validation rows, and saying what there are too few rows for.

Unusual here: targets are smoothed as Platt (1999) smooths them. Where a head answers every validation row right, the
likeliest temperature is 0, and every probability 1; with ``n`` rows, no more than ``1 - 1/(n + 2)`` can be claimed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from polytask.data.task import Kind, Target
from polytask.evaluation.calibration import Calibration, Conformal, Platt, Temperature, logit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

LEAST_ROWS, LEAST_OF_LABEL, LEAST_RESIDUALS = 50, 10, 20
"""Rows for a temperature; rows with and without a label for its slope and offset; rows for an interval."""
LEVEL = 0.9
"""Of the interval of a regression."""
LOWEST, HIGHEST = math.log(0.05), math.log(20.0)
FOLDS = 5


@dataclass(frozen=True)
class Fitted:
    """A calibration, or None, and what was not done, in words."""

    calibration: Calibration | None
    notes: tuple[str, ...] = ()


def fit(kind: Kind, labels: Sequence[str], scores: Sequence[Sequence[float]], targets: Sequence[Target]) -> Fitted:
    """The calibration of a head of this kind.

    Args:
        scores: ``[N, K]``, as the head gives them for the validation rows.
        targets: of these rows.
    """
    of = {"classification": _temperature, "multilabel": _platt, "regression": _conformal}
    if kind not in of:
        return Fitted(None)
    if not all(math.isfinite(value) for row in scores for value in row):
        return Fitted(None, ("not calibrated: the head answers with what is not a number",))
    return of[kind](labels, scores, targets)


def cross_fitted(
    kind: Kind, labels: Sequence[str], scores: Sequence[Sequence[float]], targets: Sequence[Target], folds: int = FOLDS
) -> list[list[float]]:
    """Each row's probabilities by the calibration of the other folds: what is measured on rows that were not fitted."""
    found: list[list[float]] = [[]] * len(scores)
    for fold in range(folds):
        own = range(fold, len(scores), folds)
        rest = [row for row in range(len(scores)) if row % folds != fold]
        fitted = fit(kind, labels, [scores[row] for row in rest], [targets[row] for row in rest]).calibration
        for row in own:
            found[row] = list(scores[row]) if fitted is None else fitted.probabilities(scores[row])
    return found


def _temperature(labels: Sequence[str], scores: Sequence[Sequence[float]], targets: Sequence[Target]) -> Fitted:
    """The temperature under which the validation rows' labels are likeliest."""
    import numpy as np
    from scipy.optimize import minimize_scalar

    if len(scores) < LEAST_ROWS:
        return Fitted(None, (_too_few(len(scores), LEAST_ROWS, "probabilities"),))
    logs = np.log(np.maximum(np.asarray(scores, dtype=np.float64), 1e-37))
    smoothing = 2 / (len(logs) + 2)
    wanted = np.full(logs.shape, smoothing / logs.shape[1])
    wanted[np.arange(len(logs)), list(targets)] += 1 - smoothing

    def loss(log_temperature: float) -> float:
        scaled = logs / math.exp(log_temperature)
        total = np.logaddexp.reduce(scaled, axis=1)
        return float((total - (wanted * scaled).sum(axis=1)).mean())

    best = minimize_scalar(loss, bounds=(LOWEST, HIGHEST), method="bounded", options={"xatol": 1e-6})
    return Fitted(Temperature(len(logs), math.exp(float(best.x))))


def _platt(labels: Sequence[str], scores: Sequence[Sequence[float]], targets: Sequence[Target]) -> Fitted:
    """A slope and an offset for each label that enough validation rows have, and enough have not."""
    maps, left = [], []
    for index, label in enumerate(labels):
        held = [index in target for target in targets]
        if min(sum(held), len(held) - sum(held)) < LEAST_OF_LABEL:
            maps.append((1.0, 0.0))
            left.append(label)
        else:
            maps.append(_slope_and_offset([logit(float(row[index])) for row in scores], held))
    if len(left) == len(labels):
        few = f"not calibrated: no label has {LEAST_OF_LABEL} validation rows with it and {LEAST_OF_LABEL} without"
        return Fitted(None, (few,))
    shown = ", ".join(map(repr, left[:5])) + (f" and {len(left) - 5} more" if left[5:] else "")
    few = f"not calibrated for lack of validation rows ({LEAST_OF_LABEL} with the label and {LEAST_OF_LABEL} without)"
    slopes, offsets = zip(*maps, strict=True)
    return Fitted(Platt(len(scores), slopes, offsets), (f"{few}: {shown}",) if left else ())


def _slope_and_offset(logits: Sequence[float], held: Sequence[bool]) -> tuple[float, float]:
    """Platt's fit of one label, its slope kept positive: the order of the rows never turns round."""
    import numpy as np
    from scipy.optimize import minimize

    z, num_held = np.asarray(logits), sum(held)
    high, low = (num_held + 1) / (num_held + 2), 1 / (len(held) - num_held + 2)
    wanted = np.where(np.asarray(held), high, low)

    def loss(at: Array) -> tuple[float, Array]:
        x = at[0] * z + at[1]
        error = 0.5 * (1 + np.tanh(x / 2)) - wanted
        return float((np.logaddexp(0, x) - wanted * x).mean()), np.array([(error * z).mean(), error.mean()])

    found: Any = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[(1e-2, 1e2), (None, None)])
    return float(found.x[0]), float(found.x[1])


def _conformal(labels: Sequence[str], scores: Sequence[Sequence[float]], targets: Sequence[Target]) -> Fitted:
    """The distance within which ``LEVEL`` of new rows lie: the ``⌈(n + 1) · LEVEL⌉``-th smallest of the residuals."""
    if len(scores) < LEAST_RESIDUALS:
        return Fitted(None, (_too_few(len(scores), LEAST_RESIDUALS, "intervals"),))
    residuals = sorted(abs(float(target) - row[0]) for row, target in zip(scores, targets, strict=True))
    return Fitted(Conformal(len(residuals), LEVEL, residuals[math.ceil((len(residuals) + 1) * LEVEL) - 1]))


def _too_few(num_rows: int, least: int, what: str) -> str:
    return f"not calibrated: {num_rows} validation rows are too few for {what} that mean something; {least} are needed"
