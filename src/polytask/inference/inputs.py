"""The first step of a call: checks its texts and turns them into token ids."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from polytask.adapters.header import Inputs
from polytask.backbones.backbone import Backbone
from polytask.data.encoding import Cut, Encoded, encode, joined
from polytask.data.labels import is_empty
from polytask.data.task import Rows, is_text
from polytask.errors import DataError, RouteError, UnknownName

Text = str | tuple[str, str]


def read_texts(
    texts: Sequence[Text], task: str | Sequence[str], pairs: Sequence[str | None] | None, on_error: str
) -> tuple[list[Text], list[str], dict[int, str]]:
    """The arguments of ``MultiTask.predict`` as one text (or pair) and one task per row.

    Returns:
        The texts, their tasks, and by row why a text cannot be answered (only with ``on_error="null"``).

    Raises:
        RouteError: the numbers of texts, second texts and tasks differ.
        DataError: a text is empty or no text, and ``on_error`` is ``"raise"``.
    """
    if isinstance(texts, str):
        raise DataError("texts is one text, not a list of texts", fix="Put it in brackets: predict([text], …)")
    if on_error not in ("raise", "null"):
        raise UnknownName("way of on_error", on_error, ("raise", "null"))
    texts = list(texts) if pairs is None else with_pairs(list(texts), pairs)
    tasks = [task] * len(texts) if isinstance(task, str) else list(task)
    if len(tasks) != len(texts):
        raise RouteError(f"there are {len(texts)} texts and {len(tasks)} tasks: give one task, or one per text")
    problems = {row: problem for row, text in enumerate(texts) if (problem := problem_of(text)) is not None}
    if problems and on_error == "raise":
        check_texts(texts)
    return texts, tasks, problems


def with_pairs(texts: Sequence[Text], pairs: Sequence[str | None]) -> list[Text]:
    """Texts with their second texts."""
    if len(texts) != len(pairs):
        raise RouteError(f"there are {len(texts)} texts and {len(pairs)} second texts: give one per text, or None")
    if not all(isinstance(text, str) for text in texts):
        raise RouteError("texts are pairs already: leave out pairs=")
    return [text if pair is None else (str(text), pair) for text, pair in zip(texts, pairs, strict=True)]


def problem_of(text: Text) -> str | None:
    """Why a text, or a pair of texts, cannot be answered; None if it can."""
    for what, own in zip(("text", "second text"), text if isinstance(text, tuple | list) else (text,)):
        if is_empty(own):
            return f"the {what} is empty"
        if not is_text(own):
            return f"the {what} is no text that can be written as UTF-8: {own!r:.60}"
    return None


def check_texts(texts: Sequence[Text]) -> None:
    """Refuse texts, or pairs of texts, that cannot be answered.

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
        raise DataError(problem, fix="Decode it with its own encoding")


def check_inputs(
    texts: Sequence[Text], tasks: Sequence[str], names: Sequence[str], takes: Sequence[Inputs | None]
) -> None:
    """Refuse a single text for a task of pairs, and a pair for a task of single texts.

    Args:
        texts: one text or pair per row.
        tasks: each row's task, as the user named it.
        names: each row's adapter, ``task@version``.
        takes: what each row's adapter takes; None if that is not known.

    Raises:
        RouteError: one adapter is given both.
        DataError: an adapter is given what it does not take. Its answer would look like any other, but mean nothing.
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


def check_length(backbone: Backbone, max_length: int) -> None:
    """Refuse a maximum length that is not a number of tokens the backbone can read.

    Raises:
        RouteError: with the range.
    """
    is_whole = isinstance(max_length, int) and not isinstance(max_length, bool)
    if not is_whole or not 3 <= max_length <= backbone.max_length:
        raise RouteError(
            f"max_length={max_length!r} is out of range. {backbone.name} reads 3 to {backbone.max_length} tokens"
        )


def encode_texts(tokenizer: Any, texts: Sequence[Text], cuts: Sequence[Cut]) -> Encoded:
    """Texts as token ids, each truncated or split as its own adapter needs it.

    Args:
        tokenizer: the backbone's.
        texts: one text or pair per row; at least one.
        cuts: each row's maximum length, what happens to longer texts, and the stride.
    """
    groups: dict[tuple[Cut, bool], list[int]] = {}
    for row, (text, cut) in enumerate(zip(texts, cuts, strict=True)):
        groups.setdefault((cut, isinstance(text, tuple | list)), []).append(row)
    parts = [
        (encode(tokenizer, _as_rows([texts[row] for row in rows]), *cut), rows) for (cut, _), rows in groups.items()
    ]
    return parts[0][0] if len(parts) == 1 else joined(parts)


def _as_rows(texts: Sequence[Text]) -> Rows:
    if isinstance(texts[0], tuple | list):
        return Rows([text[0] for text in texts], [text[1] for text in texts])
    return Rows([str(text) for text in texts])
