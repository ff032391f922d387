"""Fits a calibration on validation rows.

Targets are smoothed as in Platt (1999). Otherwise, a head that is right on every validation row would get a temperature
of 0 and probabilities of 1. With ``n`` rows, the smoothed targets are at most ``1 - 1/(n + 2)``.
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
"""The least rows for a temperature; with, and without, a label for its slope and offset; for an interval."""
LEVEL = 0.9
"""The coverage of a regression's interval."""
LOWEST, HIGHEST = math.log(0.05), math.log(20.0)
FOLDS = 5


@dataclass(frozen=True)
class FittedCalibration:
    """A calibration, or None, and notes on what was not calibrated and why."""

    calibration: Calibration | None
    notes: tuple[str, ...] = ()


def fit_calibration(
    kind: Kind, labels: Sequence[str], scores: Sequence[Sequence[float]], targets: Sequence[Target]
) -> FittedCalibration:
    """Fit the calibration of a head of this kind.

    Args:
        kind: the kind of head; spans are not calibrated.
        labels: the label names.
        scores: the head's scores of the validation rows, ``[N, K]``.
        targets: the targets of these rows.
    """
    of = {"classification": _temperature, "multilabel": _platt, "regression": _conformal}
    if kind not in of:
        return FittedCalibration(None)
    if not all(math.isfinite(value) for row in scores for value in row):
        return FittedCalibration(None, ("not calibrated: some scores of the head are not finite numbers",))
    return of[kind](labels, scores, targets)


def cross_fitted_probabilities(
    kind: Kind, labels: Sequence[str], scores: Sequence[Sequence[float]], targets: Sequence[Target], folds: int = FOLDS
) -> list[list[float]]:
    """Each row's probabilities ``[N, K]``, calibrated on the other folds, to measure a calibration on unseen rows."""
    found: list[list[float]] = [[]] * len(scores)
    for fold in range(folds):
        own = range(fold, len(scores), folds)
        rest = [row for row in range(len(scores)) if row % folds != fold]
        fitted = fit_calibration(
            kind, labels, [scores[row] for row in rest], [targets[row] for row in rest]
        ).calibration
        for row in own:
            found[row] = list(scores[row]) if fitted is None else fitted.probabilities(scores[row])
    return found


def _temperature(
    labels: Sequence[str], scores: Sequence[Sequence[float]], targets: Sequence[Target]
) -> FittedCalibration:
    """The temperature that maximises the likelihood of the validation labels."""
    import numpy as np
    from scipy.optimize import minimize_scalar

    if len(scores) < LEAST_ROWS:
        return FittedCalibration(None, (_too_few(len(scores), LEAST_ROWS, "probabilities"),))
    logs = np.log(np.maximum(np.asarray(scores, dtype=np.float64), 1e-37))
    smoothing = 2 / (len(logs) + 2)
    wanted = np.full(logs.shape, smoothing / logs.shape[1])
    wanted[np.arange(len(logs)), list(targets)] += 1 - smoothing

    def loss(log_temperature: float) -> float:
        scaled = logs / math.exp(log_temperature)
        total = np.logaddexp.reduce(scaled, axis=1)
        return float((total - (wanted * scaled).sum(axis=1)).mean())

    best = minimize_scalar(loss, bounds=(LOWEST, HIGHEST), method="bounded", options={"xatol": 1e-6})
    return FittedCalibration(Temperature(len(logs), math.exp(float(best.x))))


def _platt(labels: Sequence[str], scores: Sequence[Sequence[float]], targets: Sequence[Target]) -> FittedCalibration:
    """A slope and an offset for each label with enough validation rows that have it and enough that do not."""
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
        return FittedCalibration(None, (few,))
    shown = ", ".join(map(repr, left[:5])) + (f" and {len(left) - 5} more" if left[5:] else "")
    few = f"not calibrated for lack of validation rows ({LEAST_OF_LABEL} with the label and {LEAST_OF_LABEL} without)"
    slopes, offsets = zip(*maps, strict=True)
    return FittedCalibration(Platt(len(scores), slopes, offsets), (f"{few}: {shown}",) if left else ())


def _slope_and_offset(logits: Sequence[float], held: Sequence[bool]) -> tuple[float, float]:
    """Platt's fit of one label. The slope stays positive, so that the order of the rows does not change."""
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


def _conformal(
    labels: Sequence[str], scores: Sequence[Sequence[float]], targets: Sequence[Target]
) -> FittedCalibration:
    """The radius that covers a share ``LEVEL`` of new rows: the ``⌈(n + 1) · LEVEL⌉``-th smallest residual."""
    if len(scores) < LEAST_RESIDUALS:
        return FittedCalibration(None, (_too_few(len(scores), LEAST_RESIDUALS, "intervals"),))
    residuals = sorted(abs(float(target) - row[0]) for row, target in zip(scores, targets, strict=True))
    return FittedCalibration(Conformal(len(residuals), LEVEL, residuals[math.ceil((len(residuals) + 1) * LEVEL) - 1]))


def _too_few(num_rows: int, least: int, what: str) -> str:
    return f"not calibrated: {num_rows} validation rows are too few for reliable {what}; {least} are needed"
