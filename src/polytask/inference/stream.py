"""Answers an iterator of rows in chunks, so that memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from polytask.inference.prediction import Prediction

CHUNK_ROWS = 1024
"""Rows answered at a time: enough to sort by length and to fill batches."""
T = TypeVar("T")


def chunks(rows: Iterable[T], size: int = CHUNK_ROWS) -> Iterator[list[T]]:
    """Yield the rows in lists of ``size``; the last may be shorter."""
    remaining = iter(rows)
    while chunk := list(islice(remaining, size)):
        yield chunk


def answered(rows: Iterable[Any], predict: Callable[[Sequence[Any]], Sequence[Prediction]]) -> Iterator[Prediction]:
    """Yield the answer to each row, in order. Rows are read only as their answers are consumed."""
    for chunk in chunks(rows):
        yield from predict(chunk)
