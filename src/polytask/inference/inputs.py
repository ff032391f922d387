"""Reads and checks the texts to predict."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from polytask.adapters.header import Inputs
from polytask.backbones.backbone import Backbone
from polytask.data.in_memory import called, cells_of, is_table, table_from
from polytask.data.labels import is_empty
from polytask.data.read import read_rows
from polytask.data.task import Kind, Rows, is_text
from polytask.errors import DataError, RouteError

Text = str | tuple[str, str]


def texts_in(data: Any, trained_on: Mapping[str, str | None] | None = None, kind: Kind | None = None) -> list[Text]:
    """Convert the input of ``predict`` to a list of texts or pairs of texts. A missing text becomes an empty string.

    Args:
        data: a sequence of texts or of pairs, a Series, an array of strings ``[B]`` or of pairs ``[B, 2]``; or a table
            that ``polytask.data.in_memory.table_from`` accepts.
        trained_on: the names of the columns that the task was read from. A table is read by these columns if it has
            them, else by its only column, or by columns with usual names.
        kind: the kind of the task.

    Raises:
        DataError: ``data`` is a single text, does not hold texts, or is a table whose text column cannot be found.
    """
    if isinstance(data, str):
        raise DataError("one text is given, not a list of texts", fix="Put it in brackets: predict([text], …)")
    if is_table(data) and not _is_two_texts(data):
        return _texts_of_table(data, trained_on or {}, kind)
    try:
        cells = cells_of(data)
    except TypeError:
        fix = "Give a list of texts, a Series, an array of strings, or a table such as a DataFrame"
        raise DataError(f"a {type(data).__name__} does not hold texts", fix=fix) from None
    return [tuple(cell) if isinstance(cell, list) else cell for cell in cells]


def _is_two_texts(data: Any) -> bool:
    """Whether a tuple holds two texts or two pairs, not two columns."""
    return isinstance(data, tuple) and not any(isinstance(each, Mapping) for each in data)


def _texts_of_table(data: Any, trained_on: Mapping[str, str | None], kind: Kind | None) -> list[Text]:
    table = table_from(data)
    text, pair = trained_on.get("text"), trained_on.get("text_pair")
    if text not in table.header or (pair is not None and pair not in table.header):
        text, pair = (table.header[0] if len(table.header) == 1 else None), None
    try:
        rows = read_rows(table, text=text, text_pair=pair, kind=kind, keep_empty=True).rows
    except DataError as error:
        names = ", ".join(map(repr, table.header))
        fix = f"Give the column: predict(data[{table.header[0]!r}], …), or a list of pairs ({error})"
        raise DataError(
            f"{called(data)}: it is not clear which of the columns {names} holds the texts", fix=fix
        ) from None
    return list(rows.texts) if rows.pairs is None else list(zip(rows.texts, rows.pairs))


def problem_of(text: Text) -> str | None:
    """Why a text, or a pair of texts, cannot be answered; None if it can."""
    for what, own in zip(("text", "second text"), text if isinstance(text, tuple | list) else (text,)):
        if is_empty(own):
            return f"the {what} is empty"
        if not is_text(own):
            return f"the {what} is not a string that can be written as UTF-8: {own!r:.60}"
    return None


def check_length(backbone: Backbone, max_length: int) -> None:
    """Refuse a maximum length that is not a whole number of tokens or that the backbone cannot read.

    Raises:
        RouteError: with the range of lengths.
    """
    is_whole = isinstance(max_length, int) and not isinstance(max_length, bool)
    if not is_whole or not 3 <= max_length <= backbone.max_length:
        raise RouteError(
            f"max_length={max_length!r} is out of range. {backbone.name} reads 3 to {backbone.max_length} tokens"
        )


def check_texts(texts: Sequence[Text]) -> None:
    """Refuse empty texts and values that are not texts.

    Raises:
        DataError: a text, or a text of a pair, is empty or not a string.
    """
    for number, text in enumerate(texts, 1):
        problem = problem_of(text)
        if problem is None:
            continue
        if len(texts) > 1:
            problem = re.sub("^the ((second )?text)", rf"\1 {number} of {len(texts)}", problem)
        if "is empty" in problem:
            raise DataError(f"{problem}, so there is nothing to answer", fix="Fill it in, or leave it out")
        raise DataError(problem, fix="Decode it with its own encoding")


def check_inputs(
    texts: Sequence[Text], tasks: Sequence[str], names: Sequence[str], takes: Sequence[Inputs | None]
) -> None:
    """Refuse a single text for a task of pairs, and a pair for a task of single texts.

    Raises:
        RouteError: one task gets both single texts and pairs.
        DataError: a task of pairs gets a single text, or the reverse. The answer would be meaningless but look normal.
    """
    if len({(name, isinstance(text, tuple | list)) for name, text in zip(names, texts)}) > len(set(names)):
        raise RouteError("some texts of one task are pairs and some are not: predict them separately")
    for number, (text, task, inputs) in enumerate(zip(texts, tasks, takes, strict=True), 1):
        is_pair = isinstance(text, tuple | list)
        if inputs is None or is_pair == (inputs != "single"):
            continue
        which = f"text {number} of {len(texts)}" if len(texts) > 1 else "the text"
        if is_pair:
            fix = "Leave out the second text: no --pair, only --text for a file, no pairs= in Python"
            raise DataError(f"task {task!r} answers single texts, and {which} is a pair", fix=fix)
        fix = "Give it with --pair, for a file with --text-pair COLUMN, in Python with pairs="
        if inputs == "question+context":
            raise DataError(f"task {task!r} needs a context, and {which} has none", fix=fix)
        raise DataError(f"task {task!r} answers pairs of texts, and {which} has no second text", fix=fix)


def with_pairs(texts: Sequence[Text], pairs: Sequence[str | None]) -> list[Text]:
    """Combine texts with their second texts; None leaves a text single.

    Raises:
        RouteError: the numbers differ, or ``texts`` are pairs already.
    """
    if len(texts) != len(pairs):
        raise RouteError(f"{len(texts)} texts and {len(pairs)} second texts: give one for each text, or None")
    if not all(isinstance(text, str) for text in texts):
        raise RouteError("the texts are pairs already: leave out pairs=")
    return [text if pair is None else (str(text), pair) for text, pair in zip(texts, pairs, strict=True)]


def as_rows(texts: Sequence[Text]) -> Rows:
    """Texts, or pairs of texts, as rows."""
    if isinstance(texts[0], tuple | list):
        return Rows([text[0] for text in texts], [text[1] for text in texts])
    return Rows([str(text) for text in texts])
