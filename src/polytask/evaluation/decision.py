"""Turns a row's scores into its answer: its label or labels, and their probabilities.

Labels are decided on the head's own scores; the probabilities that are shown are calibrated. These fields of an
adapter's header say how:

    calibration  {"kind", its values, "rows"}: maps scores to probabilities (``polytask.evaluation.calibration``)
    thresholds   {"goal", "target", "values", "rows"}: the least probability at which a label is given
                 (``polytask.evaluation.thresholds``)
    none         {"score", "threshold", "false_alarm", "rows"}: detects texts that have none of the labels
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
"""The optional fields of a header that decide answers, and their types."""


@dataclass(frozen=True)
class Decided:
    """The answer to one row, with indices of labels.

    Attributes:
        label: the label of a classification; None if the adapter abstained.
        labels: the labels of a multi-label task.
        probs: the probability of each label, ``[K]``.
        score: the number of a regression.
        interval: the interval of that number; None if it is not calibrated.
        abstained: whether a classification has no label, because none is probable enough or because of ``none``.
        none: whether the text is unlike the training texts of all labels.
        familiarity: what the detector of such texts computed; None without a detector.
    """

    label: int | None = None
    labels: tuple[int, ...] | None = None
    probs: Sequence[float] | None = None
    score: float | None = None
    interval: tuple[float, float] | None = None
    abstained: bool = False
    none: bool = False
    familiarity: float | None = None


@dataclass(frozen=True)
class Decision:
    """How an adapter decides. With ``is_raw``, the probabilities shown are not calibrated."""

    kind: Kind
    labels: tuple[str, ...]
    calibration: Calibration | None = None
    thresholds: Thresholds | None = None
    none: NoneOfThese | None = None
    is_raw: bool = False

    def to_json(self) -> dict[str, Any]:
        """The header's fields; None for a field that is not set."""
        return {name: (own := getattr(self, name)) and own.to_json() for name in FIELDS}

    def asked(self, *, calibrated: bool = True, abstain: bool = True, threshold: float | None = None) -> Decision:
        """The decision with the options of a call.

        Args:
            calibrated: whether to show calibrated probabilities.
            abstain: whether a classification may abstain.
            threshold: one threshold for all labels, instead of the adapter's thresholds and its detector.

        Raises:
            RouteError: the threshold is not between 0 and 1, or the task has no labels.
        """
        own = self.thresholds if abstain or self.kind == "multilabel" else None
        if threshold is not None:
            if self.kind not in ("classification", "multilabel") or not 0 <= threshold <= 1:
                problem = "it must be between 0 and 1, and the task must have labels"
                raise RouteError(f"threshold={threshold!r} is not possible: {problem}")
            own = Thresholds("precision", None, (threshold,) * len(self.labels), 1)
        none = self.none if abstain and threshold is None else None
        return replace(self, is_raw=not calibrated, thresholds=own, none=none)

    def of(self, scores: Sequence[float]) -> Decided:
        """The answer to a row.

        Args:
            scores: ``[K]``, or ``[1]`` for a regression. With a detector of "none of these", ``[K + 1]``: the last is
                the familiarity of the text.
        """
        scores, familiarity = (scores[: len(self.labels)], scores[len(self.labels) :]) if self.labels else (scores, ())
        if self.kind == "regression":
            return Decided(score=scores[0], interval=self._interval(scores[0]))
        probs = scores if self.calibration is None else self.calibration.probabilities(scores)
        shown = scores if self.is_raw else probs
        if self.kind == "multilabel":
            return Decided(labels=tuple(k for k in range(len(scores)) if self._is_given(k, scores, probs)), probs=shown)
        of_text = familiarity[0] if familiarity else None
        if self.none is not None and of_text is not None and of_text < self.none.threshold:
            return Decided(probs=shown, abstained=True, none=True, familiarity=of_text)
        label = max(range(len(scores)), key=scores.__getitem__)
        if self.thresholds is not None and not self.thresholds.accepts(label, probs[label]):
            return Decided(probs=shown, abstained=True, familiarity=of_text)
        return Decided(label=label, probs=shown, familiarity=of_text)

    def _interval(self, score: float) -> tuple[float, float] | None:
        own = self.calibration
        return own.interval(score) if isinstance(own, Conformal) and not self.is_raw else None

    def _is_given(self, label: int, scores: Sequence[float], probs: Sequence[float]) -> bool:
        """Whether a label of a multi-label task is given."""
        return scores[label] >= 0.5 if self.thresholds is None else self.thresholds.accepts(label, probs[label])


@dataclass(frozen=True)
class DecisionOptions:
    """The options of a call for the decisions of all adapters; the parameters of ``Decision.asked``."""

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
    """The decision of an adapter from the fields of its header; those that are None or missing are not set.

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
