"""Checks of the texts that a model is asked about."""

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
    """Texts, or pairs of texts, however they are held; those that are missing are empty strings.

    Args:
        data: a sequence of texts or of pairs, a Series, an array of strings ``[B]`` or of pairs ``[B, 2]``; or a table
            of them, as ``polytask.data.in_memory.table_from`` takes it.
        trained_on: the names of the columns that the task was read from. Of a table these are read, if it has them;
            else its one column, or those with usual names.
        kind: of the task that is asked.

    Raises:
        DataError: it is one text, or nothing that holds texts, or which column holds the texts is not clear.
    """
    if isinstance(data, str):
        raise DataError("one text is given, not a list of texts", fix="Put it in brackets: predict([text], …)")
    if is_table(data) and not _is_two_texts(data):
        return _texts_of_table(data, trained_on or {}, kind)
    try:
        cells = cells_of(data)
    except TypeError:
        fix = "Give a list of them, a Series, an array of strings, or a table such as a DataFrame"
        raise DataError(f"texts are asked for, and a {type(data).__name__} was given", fix=fix) from None
    return [tuple(cell) if isinstance(cell, list) else cell for cell in cells]


def _is_two_texts(data: Any) -> bool:
    """Whether it is a tuple of two texts or of two pairs, and not of two columns."""
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
        fix = f"Give that column: predict(data[{table.header[0]!r}], …); of pairs, a list of pairs ({error})"
        raise DataError(f"{called(data)}: which of the columns {names} holds the texts is not known", fix=fix) from None
    return list(rows.texts) if rows.pairs is None else list(zip(rows.texts, rows.pairs))


def problem_of(text: Text) -> str | None:
    """Why a text, or a pair of texts, cannot be answered; None where it can."""
    for what, own in zip(("text", "second text"), text if isinstance(text, tuple | list) else (text,)):
        if is_empty(own):
            return f"the {what} is empty"
        if not is_text(own):
            return f"the {what} is no text that can be written as UTF-8: {own!r:.60}"
    return None


def check_length(backbone: Backbone, max_length: int) -> None:
    """Refuse a length that is no number of tokens, or more than the backbone reads.

    Raises:
        RouteError: with what would be right.
    """
    is_whole = isinstance(max_length, int) and not isinstance(max_length, bool)
    if not is_whole or not 3 <= max_length <= backbone.max_length:
        raise RouteError(
            f"max_length={max_length!r} is out of range. {backbone.name} reads 3 to {backbone.max_length} tokens"
        )


def check_texts(texts: Sequence[Text]) -> None:
    """Refuse texts, or pairs of texts, in which there is nothing to answer.

    Raises:
        DataError: one is empty, or is not text.
    """
    for number, text in enumerate(texts, 1):
        problem = problem_of(text)
        if problem is None:
            continue
        if len(texts) > 1:
            problem = re.sub("^the ((second )?text)", rf"\1 {number} of {len(texts)}", problem)
        if "is empty" in problem:
            raise DataError(f"{problem}, and there is nothing to answer", fix="Fill it in, or leave it out")
        raise DataError(problem, fix="Decode it with the encoding that it has")


def check_inputs(
    texts: Sequence[Text], tasks: Sequence[str], names: Sequence[str], takes: Sequence[Inputs | None]
) -> None:
    """Refuse a single text for a task of pairs, and a pair for a task of single texts.

    Raises:
        RouteError: one adapter is given both.
        DataError: an adapter is given what it does not take; its answer to half a question would look like any other.
    """
    if len({(name, isinstance(text, tuple | list)) for name, text in zip(names, texts)}) > len(set(names)):
        raise RouteError("some texts of one task are pairs and some are not: predict them separately")
    for number, (text, task, inputs) in enumerate(zip(texts, tasks, takes, strict=True), 1):
        is_pair = isinstance(text, tuple | list)
        if inputs is None or is_pair == (inputs != "single"):
            continue
        which = f"text {number} of {len(texts)}" if len(texts) > 1 else "the text"
        if is_pair:
            fix = "Leave the second text out: no --pair, only --text for a file, no pairs= in Python"
            raise DataError(f"task {task!r} answers single texts, and {which} is a pair", fix=fix)
        fix = "Give it with --pair, for a file with --text-pair COLUMN, in Python with pairs="
        if inputs == "question+context":
            raise DataError(f"task {task!r} is asked about a context, and there is none for {which}", fix=fix)
        raise DataError(f"task {task!r} answers pairs of texts, and {which} has no second text", fix=fix)


def with_pairs(texts: Sequence[Text], pairs: Sequence[str | None]) -> list[Text]:
    """Texts with their second texts."""
    if len(texts) != len(pairs):
        raise RouteError(f"{len(texts)} texts and {len(pairs)} second texts: give one a text, or None")
    if not all(isinstance(text, str) for text in texts):
        raise RouteError("texts are pairs already: leave out pairs=")
    return [text if pair is None else (str(text), pair) for text, pair in zip(texts, pairs, strict=True)]


def as_rows(texts: Sequence[Text]) -> Rows:
    """Texts, or pairs of texts, as rows."""
    if isinstance(texts[0], tuple | list):
        return Rows([text[0] for text in texts], [text[1] for text in texts])
    return Rows([str(text) for text in texts])
