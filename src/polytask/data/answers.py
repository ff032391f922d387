"""What a column of answers means: for each row the spans of its context that are right.

A cell is the answer's text, or a list of such texts, or as in the hub's SQuAD ``{"text": […], "answer_start": […]}``.
Where no start is given, in the cell or in a column of its own, the first place at which the text stands is taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from polytask.data.labels import is_empty
from polytask.data.table import Cell, Column
from polytask.data.task import Answer
from polytask.errors import DataError

STARTS = "answer_start"
"""The name of a column that says at which character of the context an answer starts, counted from 0."""


def answers_of(column: Column, contexts: Sequence[str], starts: Column | None = None) -> list[tuple[Answer, ...]]:
    """The answers of each row.

    Raises:
        DataError: a cell holds no answer, or one that does not stand in its context where it should.
    """
    cells = [None] * len(column.cells) if starts is None else starts.cells
    return [_answers(column, row, context, start) for row, (context, start) in enumerate(zip(contexts, cells))]


def _answers(column: Column, row: int, context: str, start: Cell) -> tuple[Answer, ...]:
    cell: Any = column.cells[row]
    if isinstance(cell, Mapping):
        cell, start = cell.get("text"), cell.get(STARTS)
    texts, places = _listed(cell), _listed(start)
    if not texts or any(map(is_empty, texts)):
        fix = "Fill it in, or leave such rows out with --drop-empty. Every question needs an answer from its context"
        raise column.error(row, "the answer is missing", fix)
    if places and len(places) != len(texts):
        raise column.error(row, f"{len(texts)} answers and {len(places)} starts", "Give one start for each answer")
    found = zip(texts, places or [None] * len(texts))
    return tuple(
        text if isinstance(text, Answer) else _answer(column, row, context, text, place) for text, place in found
    )


def _listed(cell: Cell) -> list[Any]:
    """The values of a cell that holds one, several or none."""
    if isinstance(cell, list | tuple):
        return list(cell)
    return [] if is_empty(cell) else [cell]


def _answer(column: Column, row: int, context: str, text: Cell, place: Cell) -> Answer:
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        raise column.error(row, f"the answer is not a string: {str(text)[:60]}", "Put it between quotation marks")
    text = str(text).strip()
    if is_empty(place):
        start = context.find(text)
        if start < 0:
            raise _elsewhere(column, row, context, text)
        return Answer(text, start)
    start = _whole(column, row, place)
    stands = context[max(start, 0) :][: len(text)]
    if start < 0 or stands != text:
        problem = f"the answer {text[:60]!r} does not stand at character {start:,} of its context"
        raise column.error(row, problem, f"There stands {stands[:60]!r}; characters are counted from 0")
    return Answer(text, start)


def _elsewhere(column: Column, row: int, context: str, text: str) -> DataError:
    alike = context.casefold().find(text.casefold())
    guess = f"There is {context[alike : alike + len(text)][:60]!r}. " if alike >= 0 else ""
    fix = f"{guess}An answer is copied from the context, letter by letter"
    return column.error(row, f"the answer {text[:60]!r} does not stand in its context", fix)


def _whole(column: Column, row: int, place: Cell) -> int:
    try:
        if not isinstance(place, bool) and float(place) == int(float(place)):
            return int(float(place))
    except (TypeError, ValueError, OverflowError):
        pass
    problem = f"{str(place)[:60]!r} is not the number of a character"
    raise column.error(row, problem, f"{STARTS} is a whole number from 0; leave it empty to take the first place")
