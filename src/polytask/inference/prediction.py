"""The answer to one text, and its JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from polytask.data.task import Kind
from polytask.errors import PolytaskError


@dataclass(frozen=True)
class Prediction:
    """What a task's adapter says of one text.

    ``error`` says why there is no answer, where that was asked for (``on_error="null"``); all else is None then.
    ``label`` is the likeliest label's name (classification), ``labels`` those that hold (multi-label), ``probs`` a
    probability for each label name. ``answer`` is the span ``context[start:end]``, in characters, and ``score`` its
    probability among the best spans; or ``score`` is the number that regression answers with.
    """

    task: str
    label: str | None = None
    labels: tuple[str, ...] | None = None
    probs: Mapping[str, float] | None = None
    score: float | None = None
    answer: str | None = None
    start: int | None = None
    end: int | None = None
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The fields that this kind of task has."""
        if self.error is not None:
            return {"task": self.task, "label": None, "error": self.error}
        fields = ("label", "labels", "probs", "answer", "start", "end", "score")
        return {"task": self.task, **{k: v for k in fields if (v := getattr(self, k)) is not None}}

    @classmethod
    def of(cls, task: str, kind: Kind, labels: Sequence[str], scores: Any) -> Prediction:
        """From a head's scores of one row: numbers, or of a question its best spans."""
        if kind == "span":
            if not scores:
                raise PolytaskError(f"task {task!r} answers with what is not a number (NaN)")
            return cls(task, answer=scores[0].text, start=scores[0].start, end=scores[0].end, score=scores[0].score)
        scores = scores.tolist()
        if kind == "regression":
            return cls(task, score=scores[0])
        probs = dict(zip(labels, scores, strict=True))
        if kind == "multilabel":
            return cls(task, labels=tuple(label for label, prob in probs.items() if prob >= 0.5), probs=probs)
        return cls(task, label=max(probs, key=probs.__getitem__), probs=probs)
