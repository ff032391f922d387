"""Parses a column of answers into the correct spans of each row's context.

A cell is the text of an answer, a list of such texts, or a mapping as in SQuAD on the Hugging Face hub:
``{"text": […], "answer_start": […]}``. Starts may also be in a column ``answer_start``. Without a start, an answer is
the first occurrence of its text in the context.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from polytask.data.labels import is_empty
from polytask.data.table import Cell, Column
from polytask.data.task import Answer
from polytask.errors import DataError

START_COLUMN = "answer_start"
"""The column with the position, in characters from 0, at which an answer starts in its context."""


def parse_answers(column: Column, contexts: Sequence[str], starts: Column | None = None) -> list[tuple[Answer, ...]]:
    """Return the correct answers of each row.

    Args:
        column: the column of answers.
        contexts: the context of each row.
        starts: the column ``answer_start``, if there is one.

    Raises:
        DataError: a cell has no answer, or its answer is not in the context at the given position.
    """
    cells = [None] * len(column.cells) if starts is None else starts.cells
    return [_answers_of_row(column, row, context, start) for row, (context, start) in enumerate(zip(contexts, cells))]


def _answers_of_row(column: Column, row: int, context: str, start: Cell) -> tuple[Answer, ...]:
    cell: Any = column.cells[row]
    if isinstance(cell, Mapping):
        cell, start = cell.get("text"), cell.get(START_COLUMN)
    texts, places = _as_list(cell), _as_list(start)
    if not texts or any(map(is_empty, texts)):
        fix = "Fill it in, or drop such rows with --drop-empty. Every question needs an answer from its context"
        raise column.error(row, "the answer is missing", fix)
    if places and len(places) != len(texts):
        raise column.error(row, f"{len(texts)} answers and {len(places)} starts", "Give one start for each answer")
    found = zip(texts, places or [None] * len(texts))
    return tuple(
        text if isinstance(text, Answer) else _parse_answer(column, row, context, text, place) for text, place in found
    )


def _as_list(cell: Cell) -> list[Any]:
    """Return the values of a cell that has none, one or several."""
    if isinstance(cell, list | tuple):
        return list(cell)
    return [] if is_empty(cell) else [cell]


def _parse_answer(column: Column, row: int, context: str, text: Cell, place: Cell) -> Answer:
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        raise column.error(row, f"the answer is not a string: {str(text)[:60]}", "Put it in quotation marks")
    text = str(text).strip()
    if is_empty(place):
        start = context.find(text)
        if start < 0:
            raise _not_in_context(column, row, context, text)
        return Answer(text, start)
    start = _parse_start(column, row, place)
    found = context[max(start, 0) :][: len(text)]
    if start < 0 or found != text:
        problem = f"the answer {text[:60]!r} is not at character {start:,} of its context"
        raise column.error(row, problem, f"The text there is {found[:60]!r}; characters are counted from 0")
    return Answer(text, start)


def _not_in_context(column: Column, row: int, context: str, text: str) -> DataError:
    alike = context.casefold().find(text.casefold())
    guess = f"The context has {context[alike : alike + len(text)][:60]!r}. " if alike >= 0 else ""
    fix = f"{guess}Copy the answer from the context exactly"
    return column.error(row, f"the answer {text[:60]!r} does not occur in its context", fix)


def _parse_start(column: Column, row: int, place: Cell) -> int:
    try:
        if not isinstance(place, bool) and float(place) == int(float(place)):
            return int(float(place))
    except (TypeError, ValueError, OverflowError):
        pass
    problem = f"{str(place)[:60]!r} is not a character position"
    raise column.error(
        row, problem, f"{START_COLUMN} is a whole number from 0; leave it empty for the first occurrence"
    )
