"""Answers to rows that come one by one, a chunk at a time, so that memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from polytask.inference.prediction import Prediction

CHUNK_ROWS = 1024
"""Rows answered at once: enough to sort by length and to fill batches."""
T = TypeVar("T")


def chunks(rows: Iterable[T], size: int = CHUNK_ROWS) -> Iterator[list[T]]:
    """The rows in lists of ``size``; the last may be shorter."""
    coming = iter(rows)
    while chunk := list(islice(coming, size)):
        yield chunk


def answered(rows: Iterable[Any], predict: Callable[[Sequence[Any]], Sequence[Prediction]]) -> Iterator[Prediction]:
    """What ``predict`` says of each row, in their order; rows are taken only as their answers are."""
    for chunk in chunks(rows):
        yield from predict(chunk)
