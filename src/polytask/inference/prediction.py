"""The last step of a call: a row's scores as an answer, and its JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from polytask.data.task import Kind
from polytask.errors import PolytaskError


@dataclass(frozen=True)
class Prediction:
    """The answer of a task's adapter to one text.

    Attributes:
        task: the task's name, without a version.
        label: classification: the name of the most probable label.
        labels: multi-label: the names of the labels with a probability of at least 0.5.
        probs: the probability of each label, by name.
        score: regression: the value. Spans: the probability of the answer among the best spans.
        answer: spans: the text ``context[start:end]``.
        start: spans: the answer's first character.
        end: spans: the character after the answer's last.
        error: why there is no answer (only with ``on_error="null"``); all fields but ``task`` are None then.
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
        """The fields that a task of this kind has, as JSON values."""
        if self.error is not None:
            return {"task": self.task, "label": None, "error": self.error}
        fields = ("label", "labels", "probs", "answer", "start", "end", "score")
        return {"task": self.task, **{k: v for k in fields if (v := getattr(self, k)) is not None}}

    @classmethod
    def of(cls, task: str, kind: Kind, labels: Sequence[str], scores: Any) -> Prediction:
        """A prediction from a row's scores: ``[K]`` probabilities, ``[1]`` value, or the best spans.

        Raises:
            PolytaskError: the scores of a question are not numbers.
        """
        if kind == "span":
            if not scores:
                raise PolytaskError(f"task {task!r} gave NaN, which is not an answer")
            return cls(task, answer=scores[0].text, start=scores[0].start, end=scores[0].end, score=scores[0].score)
        scores = scores.tolist()
        if kind == "regression":
            return cls(task, score=scores[0])
        probs = dict(zip(labels, scores, strict=True))
        if kind == "multilabel":
            return cls(task, labels=tuple(label for label, prob in probs.items() if prob >= 0.5), probs=probs)
        return cls(task, label=max(probs, key=probs.__getitem__), probs=probs)
