"""An adapter's answers to labelled rows: what every section of the report is computed from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from polytask.adapters.store import Entry
from polytask.data.encoding import encode
from polytask.data.task import Answer, Kind, Rows, Target
from polytask.errors import DataError
from polytask.evaluation.decision import Decision, decision_of
from polytask.evaluation.none_of_these import split_off
from polytask.inference.inputs import Text
from polytask.inference.predict import MultiTask
from polytask.inference.prediction import Prediction

CHUNK_ROWS = 256
MAX_COUNTED_TOKENS = 4096
"""Texts are measured up to this many tokens."""

Progress = Callable[[str, int, int], None]
"""Called with a stage in words, the number of its parts that are done, and how many there are."""


def no_progress(stage: str, done: int, total: int) -> None:
    """Show nothing."""


@dataclass(frozen=True)
class Answered:
    """Labelled rows and an adapter's answers to them.

    Attributes:
        entry: the adapter.
        model: what answered.
        rows: the rows, with targets.
        predictions: the answers in the form of targets, ``[N]``. Every row is answered, even below a threshold.
        scores: what the head gives each row, not calibrated, ``[N, K]``; the number of a regression, ``[N, 1]``; the
            score of a span, ``[N, 1]``.
        num_tokens: the number of tokens of each whole text, ``[N]``.
        train: the rows that the adapter was trained on, if they are known.
        called_none: of each row, whether it was called none of these, ``[N]``; empty if nothing is.
        unlike: rows without a right label, and the answers to them.
        progress: is told how far the report is.
    """

    entry: Entry
    model: MultiTask
    rows: Rows
    predictions: Sequence[Target]
    scores: Sequence[Sequence[float]]
    num_tokens: Sequence[int]
    train: Rows | None = None
    progress: Progress = no_progress
    called_none: Sequence[bool] = ()
    unlike: tuple[Rows, Sequence[Prediction]] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def kind(self) -> Kind:
        """The kind of task."""
        return self.entry.header.head.kind

    @property
    def labels(self) -> tuple[str, ...]:
        """The label names."""
        return tuple(self.entry.labels)

    @property
    def metric(self) -> str:
        """The metric that the adapter was trained by."""
        return self.entry.metric

    @property
    def targets(self) -> Sequence[Target]:
        """The correct answers, ``[N]``."""
        assert self.rows.targets is not None, "rows of a report have targets"
        return self.rows.targets

    @property
    def texts(self) -> list[Text]:
        """Texts, or pairs of texts."""
        return list(self.rows.texts) if self.rows.pairs is None else list(zip(self.rows.texts, self.rows.pairs))

    @cached_property
    def decision(self) -> Decision:
        """How scores become answers."""
        return decision_of(self.kind, self.labels, self.entry.header.decides)

    @cached_property
    def probs(self) -> Sequence[Sequence[float]]:
        """The scores, calibrated if the adapter is."""
        calibration = self.decision.calibration
        return self.scores if calibration is None else [calibration.probabilities(row) for row in self.scores]

    @property
    def max_length(self) -> int:
        """The number of tokens that the adapter reads of a text."""
        backbone = self.model.backbone
        return min(int(self.entry.header.recipe.get("max_length", backbone.max_length)), backbone.max_length)

    @property
    def label_counts(self) -> dict[str, Any] | None:
        """The number of training rows with each label; None if it is not known."""
        if not self.labels:
            return None
        if self.train is not None and self.train.targets is not None:
            return dict(zip(self.labels, count_labels(self.train.targets, len(self.labels))))
        counts = self.entry.header.result.get("label_counts")
        own = {label: counts.get(label) for label in self.labels} if isinstance(counts, Mapping) else {}
        return own if own and all(isinstance(count, int) for count in own.values()) else None


def count_labels(targets: Sequence[Target], num_labels: int) -> list[int]:
    """The number of rows with each label."""
    from polytask.evaluation.metrics import indicators

    return [int(count) for count in indicators(targets, num_labels).sum(axis=0, dtype=int)]


def answer(
    model: MultiTask, entry: Entry, rows: Rows, *, train: Rows | None = None, progress: Progress = no_progress
) -> Answered:
    """Let an adapter answer labelled rows. Those whose target is the number of labels have none of the labels.

    Raises:
        PolytaskError: as ``MultiTask.predict``.
    """
    rows, unlike = _split_off(entry, rows)
    predictions = _predictions(model, entry, rows, progress)
    of_unlike = None if unlike is None else (unlike, _predictions(model, entry, unlike, progress))
    train = None if train is None else _split_off(entry, train)[0]
    number = {label: index for index, label in enumerate(entry.labels)}
    lengths = encode(model.backbone.tokenizer, rows, MAX_COUNTED_TOKENS).lengths
    targets = [_target(prediction, number) for prediction in predictions]
    called = [own.none for own in predictions] if entry.header.none is not None else []
    scores = [_scores(own) for own in predictions]
    return Answered(entry, model, rows, targets, scores, lengths, train, progress, called, of_unlike)


def _split_off(entry: Entry, rows: Rows) -> tuple[Rows, Rows | None]:
    """The rows with a label of the adapter, and those without; None if all have one."""
    if entry.header.head.kind != "classification" or len(entry.labels) not in (rows.targets or ()):
        return rows, None
    kept, unlike = split_off(rows, len(entry.labels))
    if not len(kept):
        raise DataError("no row has a label of the adapter", fix=f"Add rows with the labels of {entry}")
    return kept, unlike


def _predictions(model: MultiTask, entry: Entry, rows: Rows, progress: Progress) -> list[Prediction]:
    texts: list[Text] = list(rows.texts) if rows.pairs is None else list(zip(rows.texts, rows.pairs))
    found: list[Prediction] = []
    for start in range(0, len(texts), CHUNK_ROWS):
        progress("answering the rows", start, len(texts))
        found += model.predict(texts[start : start + CHUNK_ROWS], str(entry), calibrated=False)
    progress("answering the rows", len(texts), len(texts))
    return found


def _target(prediction: Prediction, number: dict[str, int]) -> Any:
    if prediction.answer is not None:
        return (Answer(prediction.answer, prediction.start or 0),)
    if prediction.score is not None:
        return prediction.score
    if prediction.labels is not None:
        return tuple(number[label] for label in prediction.labels)
    return number[prediction.likeliest or ""]


def _scores(prediction: Prediction) -> list[float]:
    return [prediction.score] if prediction.score is not None else list((prediction.probs or {}).values())
