"""A task: its name, kind, label names, metric and rows. The constructors check everything a reader would check."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from numbers import Integral, Real
from typing import Any, Literal

from polytask.data.notebook import html_table
from polytask.errors import DataError, UnknownName

Kind = Literal["classification", "multilabel", "regression", "span"]
KINDS: tuple[Kind, ...] = ("classification", "multilabel", "regression", "span")
"""One label per row, several labels per row, a number, or a span of a context."""


def _is_index(value: object, num_labels: int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and 0 <= int(value) < num_labels


def _is_score(value: object, _: int) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and abs(float(value)) <= MAX_SCORE


MAX_SCORE = 1e30
"""Larger scores overflow in fp32 when they are squared and summed."""
MOST_NAMED, MOST_SHOWN = 8, 5
"""Labels that a task's ``repr`` names, and rows that a notebook shows."""

_IS_VALID: dict[Kind, Callable[[Any, int], bool]] = {
    "classification": _is_index,
    "regression": _is_score,
    "multilabel": lambda value, n: isinstance(value, tuple | list) and all(_is_index(own, n) for own in value),
    "span": lambda value, _: isinstance(value, tuple | list) and all(isinstance(own, Answer) for own in value),
}
_TARGET_HINTS = {
    "classification": "Give the index of the row's label, from 0 to {last}",
    "regression": "Give a finite number of at most 1e30",
    "multilabel": "Give a tuple of indices of labels, from 0 to {last}",
    "span": "Give a tuple of Answer(text, start)",
}

Target = Any
"""The correct answer of a row: ``int`` (the index of its label), ``float`` (a score), ``tuple[int, ...]`` (the indices
of its labels) or ``tuple[Answer, ...]`` (spans, each of them correct)."""


@dataclass(frozen=True)
class Answer:
    """A span: its text, and where it starts in the context, in characters from 0."""

    text: str
    start: int


def num_outputs(kind: Kind, num_labels: int) -> int:
    """Return the number of outputs of a head: one per label, one for a score, two for the ends of a span."""
    return {"regression": 1, "span": 2}.get(kind, num_labels)


def is_blank(text: str) -> bool:
    """Whether a text is empty or only whitespace."""
    return not text or text.isspace()


def describe_constant_targets(kind: Kind, targets: Sequence[Target], labels: Sequence[str]) -> tuple[str, str] | None:
    """Describe the problem and the fix if all rows have the same target; None if targets differ."""
    different = {tuple(target) if isinstance(target, list) else target for target in targets}
    if kind == "span" or len(different) > 1:
        return None
    rows = "the only row has" if len(targets) == 1 else f"all {len(targets):,} rows have"
    what = f"the number {targets[0]}" if kind == "regression" else _describe_labels(targets[0], labels)
    needed = "numbers" if kind == "regression" else "labels"
    return f"{rows} {what}", f"At least two different {needed} are needed to learn from"


def _describe_labels(target: Target, labels: Sequence[str]) -> str:
    names = [repr(labels[index]) for index in (target if isinstance(target, tuple | list) else (target,))]
    return f"the label{'s' * (len(names) > 1)} {' and '.join(names)}" if names else "no label"


def is_text(value: object) -> bool:
    """Whether a value is a string that tokenizers accept: one without lone surrogates."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


@dataclass(frozen=True)
class Rows:
    """Rows of texts or pairs of texts.

    Attributes:
        texts: one text per row.
        pairs: one second text per row; None for single texts.
        targets: one target per row; None if labels are not known.
        ids: one id per row; None if rows have no ids.
        lines: the line of the file on which each row starts; None if rows have no lines but numbers.

    Raises:
        DataError: the columns differ in length.
    """

    texts: Sequence[str]
    pairs: Sequence[str] | None = None
    targets: Sequence[Target] | None = None
    ids: Sequence[str] | None = None
    lines: Sequence[int] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        for name in ("pairs", "targets", "ids", "lines"):
            column = getattr(self, name)
            if column is not None and len(column) != len(self.texts):
                problem = f"there are {len(self.texts):,} texts and {len(column):,} {name}"
                raise DataError(problem, fix="Give one per text, in the same order")

    def __len__(self) -> int:
        return len(self.texts)

    def __repr__(self) -> str:
        """``<Rows: 900 texts with targets>``: how many, not which."""
        what = "texts" if self.pairs is None else "pairs of texts"
        return f"<Rows: {len(self):,} {what}{'' if self.targets is None else ' with targets'}>"

    def take(self, rows: Sequence[int]) -> Rows:
        """Return these rows only, in this order."""

        def pick(column: Sequence[Any] | None) -> list[Any] | None:
            return None if column is None else [column[row] for row in rows]

        columns = (self.pairs, self.targets, self.ids, self.lines)
        return Rows([self.texts[row] for row in rows], *map(pick, columns))


@dataclass(frozen=True)
class Task:
    """A task with its data, before training.

    Attributes:
        name: the task's name.
        kind: ``classification``, ``multilabel``, ``regression`` or ``span``.
        labels: the label names in the order of their indices; empty for regression and spans.
        metric: a name in ``polytask.evaluation.metrics.METRICS``.
        train: the training rows.
        validation: the rows that choose the epoch and the settings.
        test: the rows that are only scored; None if there are none.
        notes: warnings found while reading the data, as sentences.
        columns: the names of the columns that the task was read from: ``text``, ``text_pair`` (None for single texts)
            and ``label``; None if it was not read from a table.

    Raises:
        UnknownName: there is no such kind.
        DataError: labels or rows are not valid.
    """

    name: str
    kind: Kind
    labels: tuple[str, ...]
    metric: str
    train: Rows
    validation: Rows
    test: Rows | None = None
    notes: tuple[str, ...] = field(default=(), compare=False)
    columns: dict[str, str | None] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UnknownName("kind of task", self.kind, KINDS)
        if not all(isinstance(label, str) and label.strip() for label in self.labels):
            odd = next(label for label in self.labels if not isinstance(label, str) or not label.strip())
            raise DataError(
                f"task {self.name!r} has the label {odd!r}", fix="Labels are names: strings that are not empty"
            )
        if self.kind in ("classification", "multilabel") and not self.labels:
            raise DataError(f"task {self.name!r} has no labels", fix="Name them in the order of their indices")
        if len(set(self.labels)) != len(self.labels):
            raise DataError(f"task {self.name!r} names a label twice: {', '.join(self.labels)}")
        for split, rows in (("training", self.train), ("validation", self.validation), ("test", self.test)):
            if rows is not None:
                self._check(split, rows)

    def __repr__(self) -> str:
        """``<Task 'spam': classification (ham, spam), 900 training and 100 validation rows, accuracy>``."""
        named = ", ".join(self.labels[:MOST_NAMED]) + (", …" if len(self.labels) > MOST_NAMED else "")
        labels = f" ({named})" if len(self.labels) <= MOST_NAMED else f" ({len(self.labels):,} labels: {named})"
        test = "" if self.test is None else f", {len(self.test):,} test rows"
        rows = f"{len(self.train):,} training and {len(self.validation):,} validation rows{test}"
        return f"<Task {self.name!r}: {self.kind}{labels if self.labels else ''}, {rows}, {self.metric}>"

    def _repr_html_(self) -> str:
        """Its first training rows, for notebooks."""
        first, has_pairs = self.train.take(range(min(len(self.train), MOST_SHOWN))), self.train.pairs is not None
        columns = [
            first.texts,
            *([first.pairs or ()] if has_pairs else []),
            map(self._target_in_words, first.targets or ()),
        ]
        header = ("text", *(("text_pair",) if has_pairs else ()), "label")
        return html_table(repr(self), header, zip(*columns))

    def _target_in_words(self, target: Target) -> str:
        """A target in words: names of labels, a number, or the texts of the answers."""
        if self.kind == "classification":
            return self.labels[target]
        if self.kind == "regression":
            return f"{target:g}"
        return ", ".join(each.text if isinstance(each, Answer) else self.labels[each] for each in target)

    def _check(self, split: str, rows: Rows) -> None:
        """Raise a ``DataError`` for rows that cannot be trained on or scored."""
        where = f"the {split} rows of task {self.name!r}"
        if not len(rows):
            least = "at least two, with different labels" if split == "training" else "at least one"
            raise DataError(f"task {self.name!r} has no {split} rows", fix=f"Give {least}")
        for number, texts in enumerate(zip(rows.texts, rows.pairs or rows.texts), 1):
            if not all(map(is_text, texts)):
                fix = "Give strings that can be written as UTF-8"
                raise DataError(f"text {number} of {where} is not a valid string: {texts[0]!r:.60}", fix=fix)
            if rows.targets is not None and any(map(is_blank, texts)):
                raise DataError(f"text {number} of {where} is empty", fix="Fill it in, or drop such rows")
        if rows.targets is None:
            if split == "test":
                return
            raise DataError(f"{where} have no targets", fix="Give one target per row: Rows(texts, targets=…)")
        right = _IS_VALID[self.kind]
        for number, target in enumerate(rows.targets, 1):
            if not right(target, len(self.labels)):
                fix = _TARGET_HINTS[self.kind].format(last=len(self.labels) - 1)
                raise DataError(f"target {number} of {where} is {target!r:.60}", fix=fix)
        if (
            split == "training"
            and (what := describe_constant_targets(self.kind, rows.targets, self.labels)) is not None
        ):
            raise DataError(f"{where}: {what[0]}", fix=what[1])

    @cached_property
    def digest(self) -> str:
        """SHA-256 of kind, labels, metric and all rows."""
        sha = hashlib.sha256(json.dumps([self.kind, self.labels, self.metric]).encode())
        for rows in (self.train, self.validation, self.test):
            for column in (None,) * 4 if rows is None else (rows.texts, rows.pairs, rows.targets, rows.ids):
                sha.update(json.dumps(None if column is None else list(column), default=repr).encode())
        return sha.hexdigest()

    def with_train_rows(self, rows: Sequence[int]) -> Task:
        """Return the task with only these training rows."""
        return replace(self, train=self.train.take(rows))
