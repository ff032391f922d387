"""From a row's scores to its answer: which labels, and the probabilities that are shown with them.

The labels are decided on the scores as the head gave them; what is shown is calibrated. Fields of an adapter's header:

    calibration  {"kind", its values, "rows"}: from scores to probabilities (``polytask.evaluation.calibration``)
    thresholds   {"goal", "target", "values", "rows"}: from which probability on an answer stands
                 (``polytask.evaluation.thresholds``)
    none         {"score", "threshold", "false_alarm", "rows"}: which texts have none of the labels
                 (``polytask.evaluation.none_of_these``)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from polytask.data.task import Kind
from polytask.errors import RouteError
from polytask.evaluation.calibration import Calibration, Conformal, calibration_from_json
from polytask.evaluation.none_of_these import NoneOfThese, none_from_json
from polytask.evaluation.thresholds import Thresholds, thresholds_from_json

FIELDS: dict[str, tuple[type, ...]] = {"calibration": (dict,), "thresholds": (dict,), "none": (dict,)}
"""The fields of a header that are about decisions, all of them optional, and their types."""


@dataclass(frozen=True)
class Decided:
    """What is decided of one row, by the indices of labels.

    ``label`` (classification) and ``labels`` (several) are what holds; ``probs`` are calibrated; ``score`` and its
    ``interval`` are those of a regression. With ``abstained`` there is no label: none is sure enough, or, with
    ``none``, the text is unlike those of all labels.
    """

    label: int | None = None
    labels: tuple[int, ...] | None = None
    probs: Sequence[float] | None = None
    score: float | None = None
    interval: tuple[float, float] | None = None
    abstained: bool = False
    none: bool = False


@dataclass(frozen=True)
class Decision:
    """How an adapter with such a head decides. With ``is_raw`` probabilities are shown as the head gave them."""

    kind: Kind
    labels: tuple[str, ...]
    calibration: Calibration | None = None
    thresholds: Thresholds | None = None
    none: NoneOfThese | None = None
    is_raw: bool = False

    def to_json(self) -> dict[str, Any]:
        """The header's fields, None where there is nothing to say."""
        return {name: (own := getattr(self, name)) and own.to_json() for name in FIELDS}

    def asked(self, *, calibrated: bool = True, abstain: bool = True, threshold: float | None = None) -> Decision:
        """The same as someone asks for it.

        Args:
            calibrated: whether the probabilities that are shown are.
            abstain: whether a classification may.
            threshold: for all labels, in place of its own, and of its detector of none of these.

        Raises:
            RouteError: a threshold for what has no labels, or one that is no probability.
        """
        own = self.thresholds if abstain or self.kind == "multilabel" else None
        if threshold is not None:
            if self.kind not in ("classification", "multilabel") or not 0 <= threshold <= 1:
                raise RouteError(f"threshold={threshold!r} is out of place: it is a probability, for tasks with labels")
            own = Thresholds("precision", None, (threshold,) * len(self.labels), 1)
        none = self.none if abstain and threshold is None else None
        return replace(self, is_raw=not calibrated, thresholds=own, none=none)

    def of(self, scores: Sequence[float]) -> Decided:
        """What is decided of a row with the scores ``[K]``, or ``[1]`` of a regression.

        Of an adapter that detects none of these, they are ``[K + 1]``; the last is how familiar the text is.
        """
        scores, familiarity = (scores[: len(self.labels)], scores[len(self.labels) :]) if self.labels else (scores, ())
        if self.kind == "regression":
            return Decided(score=scores[0], interval=self._interval(scores[0]))
        probs = scores if self.calibration is None else self.calibration.probabilities(scores)
        shown = scores if self.is_raw else probs
        if self.kind == "multilabel":
            return Decided(labels=tuple(k for k in range(len(scores)) if self._holds(k, scores, probs)), probs=shown)
        if self.none is not None and familiarity and familiarity[0] < self.none.threshold:
            return Decided(probs=shown, abstained=True, none=True)
        label = max(range(len(scores)), key=scores.__getitem__)
        if self.thresholds is not None and not self.thresholds.stands(label, probs[label]):
            return Decided(probs=shown, abstained=True)
        return Decided(label=label, probs=shown)

    def _interval(self, score: float) -> tuple[float, float] | None:
        own = self.calibration
        return own.interval(score) if isinstance(own, Conformal) and not self.is_raw else None

    def _holds(self, label: int, scores: Sequence[float], probs: Sequence[float]) -> bool:
        """Whether one of several labels does."""
        return scores[label] >= 0.5 if self.thresholds is None else self.thresholds.stands(label, probs[label])


@dataclass(frozen=True)
class DecisionOptions:
    """What a caller asks of the decisions of all adapters; the parameters of ``Decision.asked``."""

    calibrated: bool = True
    abstain: bool = True
    threshold: float | None = None

    def apply(self, decision: Decision) -> Decision:
        """An adapter's decision with these options.

        Raises:
            RouteError: a threshold for a task without labels, or one that is not a probability.
        """
        return decision.asked(calibrated=self.calibrated, abstain=self.abstain, threshold=self.threshold)


def decision_of(kind: Kind, labels: Sequence[str], given: Mapping[str, Any]) -> Decision:
    """The decision of an adapter by the fields of its header, of which those that are None or missing say nothing.

    Raises:
        AdapterError: a field does not fit the head.
    """
    calibration, thresholds, none = (given.get(name) for name in FIELDS)
    return Decision(
        kind,
        tuple(labels),
        None if calibration is None else calibration_from_json(calibration, kind, len(labels)),
        None if thresholds is None else thresholds_from_json(thresholds, kind, len(labels)),
        None if none is None else none_from_json(none, kind),
    )
