"""A task: a name, rows of text, label names, a metric and a kind of head."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

Kind = Literal["classification", "multilabel", "regression", "span"]
KINDS: tuple[Kind, ...] = ("classification", "multilabel", "regression", "span")

Target = Any
"""What a row should be answered with: ``int`` (the index of its label), ``float`` (a score),
``tuple[int, ...]`` (the indices of its labels) or ``tuple[Answer, ...]`` (spans, each of which is right)."""


@dataclass(frozen=True)
class Answer:
    """A span: its text, and the character of the context at which it starts."""

    text: str
    start: int


def num_outputs(kind: Kind, num_labels: int) -> int:
    """Rows of a head's weight: one a label, one for a score, two for a span's ends."""
    return {"regression": 1, "span": 2}.get(kind, num_labels)


@dataclass(frozen=True)
class Rows:
    """Texts, or pairs of texts, each with its target (none where labels are not known)."""

    texts: Sequence[str]
    pairs: Sequence[str] | None = None
    targets: Sequence[Target] | None = None
    ids: Sequence[str] | None = None

    def __post_init__(self) -> None:
        columns = [c for c in (self.pairs, self.targets, self.ids) if c is not None]
        assert all(len(column) == len(self.texts) for column in columns), "columns of unequal length"

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: Sequence[int]) -> Rows:
        """These rows only, in this order."""

        def pick(column: Sequence[Any] | None) -> list[Any] | None:
            return None if column is None else [column[row] for row in rows]

        return Rows([self.texts[row] for row in rows], pick(self.pairs), pick(self.targets), pick(self.ids))


@dataclass(frozen=True)
class Task:
    """Everything there is to know about a task before a model sees it.

    ``labels`` are the label names in the order of their indices; empty for regression and spans.
    ``metric`` is a name in ``polytask.tasks.metrics.METRICS``. ``notes`` are remarks for the person
    who trains it (warnings found while reading), already worded. ``columns`` are the names of the columns that it was
    read from: ``text``, ``text_pair`` (None for single texts) and ``label``; None where it was read from no table.
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

    @cached_property
    def digest(self) -> str:
        """SHA-256 over kind, labels, metric and every row: equal digests, equal task."""
        sha = hashlib.sha256(json.dumps([self.kind, self.labels, self.metric]).encode())
        for rows in (self.train, self.validation, self.test):
            for column in (None,) * 4 if rows is None else (rows.texts, rows.pairs, rows.targets, rows.ids):
                sha.update(json.dumps(None if column is None else list(column), default=repr).encode())
        return sha.hexdigest()

    def with_train_rows(self, rows: Sequence[int]) -> Task:
        """The same task with these of its training rows only."""
        return replace(self, train=self.train.take(rows))
