"""``Prediction``: the answer to one text, made from a row's scores, and its JSON. The last step of ``predict``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from polytask.errors import PolytaskError
from polytask.evaluation.decision import Decision

NONE_OF_THESE, BELOW_THRESHOLD = "none of these", "below the threshold"


@dataclass(frozen=True)
class Prediction:
    """The answer of a task's adapter to one text.

    ``error`` says why there is no answer, with ``on_error="null"``; all other fields are None then.
    ``label`` is the likeliest label's name (classification), ``labels`` those that hold (multi-label), ``probs`` a
    calibrated probability for each label name. ``answer`` is the span ``context[start:end]``, in characters, and
    ``score`` its probability among the best spans; or ``score`` is the number that regression answers with, and
    ``interval`` holds the truth in nine of ten rows like those that it was validated on.
    ``abstained`` says that no label is sure enough for the adapter's thresholds: ``label`` is None, ``probs`` stay.
    With ``none`` the text is unlike the texts of all labels: none of these. ``familiarity`` is what the adapter's
    detector of such texts computed; it is not part of the JSON, and None of answers of a server.
    """

    task: str
    label: str | None = None
    labels: tuple[str, ...] | None = None
    probs: Mapping[str, float] | None = None
    score: float | None = None
    interval: tuple[float, float] | None = None
    abstained: bool = False
    none: bool = False
    answer: str | None = None
    start: int | None = None
    end: int | None = None
    error: str | None = None
    familiarity: float | None = field(default=None, compare=False)

    @property
    def reason(self) -> str | None:
        """Why a classification has no label, ``none of these`` or ``below the threshold``; None if it has one."""
        if not self.abstained:
            return None
        return NONE_OF_THESE if self.none else BELOW_THRESHOLD

    @property
    def likeliest(self) -> str | None:
        """The label of a classification, or of what is not given one the label with the largest probability."""
        return self.label if self.label is not None or not self.probs else max(self.probs, key=self.probs.__getitem__)

    def to_json(self) -> dict[str, Any]:
        """The fields of a prediction of this kind, as JSON values."""
        if self.error is not None:
            return {"task": self.task, "label": None, "error": self.error}
        if self.abstained:
            none = {"none": True} if self.none else {}
            return {
                "task": self.task,
                "label": None,
                "abstained": True,
                **none,
                "reason": self.reason,
                "probs": self.probs,
            }
        fields = ("label", "labels", "probs", "answer", "start", "end", "score", "interval")
        return {"task": self.task, **{k: v for k in fields if (v := getattr(self, k)) is not None}}

    @classmethod
    def of(cls, task: str, decision: Decision, scores: Any) -> Prediction:
        """Make a prediction from a head's scores of one row: numbers, or the best spans for a question."""
        if decision.kind == "span":
            if not scores:
                raise PolytaskError(f"task {task!r} gave NaN, which is not an answer")
            return cls(task, answer=scores[0].text, start=scores[0].start, end=scores[0].end, score=scores[0].score)
        of, names = decision.of(scores.tolist()), decision.labels
        return cls(
            task,
            label=None if of.label is None else names[of.label],
            labels=None if of.labels is None else tuple(names[index] for index in of.labels),
            probs=None if of.probs is None else dict(zip(names, of.probs, strict=True)),
            score=of.score,
            interval=of.interval,
            abstained=of.abstained,
            none=of.none,
            familiarity=of.familiarity,
        )
