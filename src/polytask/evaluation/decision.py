"""From a row's scores to its answer: which labels, and the probabilities that are shown with them.

The labels are decided on the scores as the head gave them; what is shown is calibrated. Fields of an adapter's header:

    calibration  {"kind", its values, "rows"}: from scores to probabilities (``polytask.evaluation.calibration``)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from polytask.data.task import Kind
from polytask.evaluation.calibration import Calibration, Conformal, calibration_from_json

FIELDS: dict[str, tuple[type, ...]] = {"calibration": (dict,)}
"""The fields of a header that are about decisions, all of them optional, and their types."""


@dataclass(frozen=True)
class Decided:
    """What is decided of one row, by the indices of labels.

    ``label`` (classification) and ``labels`` (several) are what holds; ``probs`` are calibrated; ``score`` and its
    ``interval`` are those of a regression.
    """

    label: int | None = None
    labels: tuple[int, ...] | None = None
    probs: Sequence[float] | None = None
    score: float | None = None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Decision:
    """How an adapter with such a head decides."""

    kind: Kind
    labels: tuple[str, ...]
    calibration: Calibration | None = None

    @property
    def uncalibrated(self) -> Decision:
        """The same with the head's own probabilities."""
        return replace(self, calibration=None)

    def of(self, scores: Sequence[float]) -> Decided:
        """What is decided of a row with the scores ``[K]``, or ``[1]`` of a regression."""
        if self.kind == "regression":
            own = self.calibration
            return Decided(score=scores[0], interval=own.interval(scores[0]) if isinstance(own, Conformal) else None)
        probs = scores if self.calibration is None else self.calibration.probabilities(scores)
        if self.kind == "multilabel":
            return Decided(labels=tuple(index for index, score in enumerate(scores) if score >= 0.5), probs=probs)
        return Decided(label=max(range(len(scores)), key=scores.__getitem__), probs=probs)


def decision_of(kind: Kind, labels: Sequence[str], given: Mapping[str, Any]) -> Decision:
    """The decision of an adapter by the fields of its header, of which those that are None or missing say nothing.

    Raises:
        AdapterError: a field does not fit the head.
    """
    calibration = given.get("calibration")
    own = None if calibration is None else calibration_from_json(calibration, kind, len(labels))
    return Decision(kind, tuple(labels), own)
