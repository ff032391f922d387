"""Reads SQuAD v1.1 JSON files as rows or as a table."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from os import PathLike
from typing import Any, TypeVar

from polytask.data.folders import read_text
from polytask.data.table import Table
from polytask.data.task import Answer, Rows
from polytask.errors import DataError

T = TypeVar("T")


def read_squad(path: str | PathLike[str], *, labelled: bool = True, limit: int | None = None) -> Rows:
    """Read SQuAD v1.1 JSON, gzipped or not.

    Args:
        path: the file.
        labelled: read the answers, too; otherwise they may be missing.
        limit: read only this many questions from the start.

    Returns:
        Questions as ``texts``, contexts as ``pairs``, the questions' ``ids``, and a tuple of ``Answer`` per target.

    Raises:
        DataError: the file is not SQuAD v1.1; the message gives the place in the file.
    """
    return read_with_titles(path, labelled, limit)[0]


def squad_table(path: str | PathLike[str], *, labelled: bool = True) -> Table:
    """Read SQuAD v1.1 JSON as a table with one row per question.

    The columns are ``id``, ``title`` (of the article), ``context``, ``question`` and, if ``labelled``, ``answers``.
    Errors are those of ``read_squad``.
    """
    rows, titles = read_with_titles(path, labelled, None)
    columns: dict[str, Sequence[Any] | None] = {"id": rows.ids, "title": titles, "context": rows.pairs}
    columns |= {"question": rows.texts, "answers": rows.targets}
    there = {name: column for name, column in columns.items() if column is not None}
    return Table(str(path), tuple(there), list(zip(*there.values(), strict=True)), range(1, len(rows) + 1))


def read_with_titles(path: str | PathLike[str], labelled: bool, limit: int | None) -> tuple[Rows, list[str]]:
    """Read the questions and the titles of their articles. Errors are those of ``read_squad``."""
    file = _SquadFile(path)
    texts, pairs, ids, targets, titles = [], [], [], [], []
    for where, title, context, qa in islice(file.questions(), limit):
        titles.append(title)
        texts.append(file.text(qa, "question", where))
        pairs.append(context)
        ids.append(file.text(qa, "id", where))
        if labelled:
            targets.append(file.answers(qa, context, where))
    if not texts:
        raise DataError("the file contains no questions", file=path)
    twice = [id for id, count in Counter(ids).items() if count > 1]
    if twice:
        raise DataError(f"{len(twice)} ids occur more than once, such as {twice[0]!r}", file=path)
    return Rows(texts, pairs, targets if labelled else None, ids), titles


@dataclass(frozen=True)
class _SquadFile:
    """A SQuAD file, with errors that give the place in its JSON."""

    path: str | PathLike[str]

    def questions(self) -> Iterator[tuple[str, str, str, object]]:
        """Yield each question's place in the file, its article's title, its context and its JSON."""
        try:
            root = json.loads(read_text(self.path))
        except json.JSONDecodeError as error:
            raise DataError(f"not JSON ({error.msg})", file=self.path, line=error.lineno) from error
        except RecursionError as error:
            raise DataError("not SQuAD JSON: it is nested too deeply", file=self.path) from error
        for i, article in enumerate(self.get(root, "data", list, "the file")):
            paragraphs = self.get(article, "paragraphs", list, f"data[{i}]")
            title = str(article.get("title") or f"article {i + 1}")
            for j, paragraph in enumerate(paragraphs):
                where = f"data[{i}].paragraphs[{j}]"
                context = self.text(paragraph, "context", where)
                for k, qa in enumerate(self.get(paragraph, "qas", list, where)):
                    yield f"{where}.qas[{k}]", title, context, qa

    def answers(self, qa: object, context: str, where: str) -> tuple[Answer, ...]:
        found = []
        for i, item in enumerate(self.get(qa, "answers", list, where)):
            here = f"{where}.answers[{i}]"
            answer = Answer(self.text(item, "text", here), self.get(item, "answer_start", int, here))
            there = context[max(answer.start, 0) :][: len(answer.text)]
            if answer.start < 0 or there != answer.text:
                problem = f"{here}: the answer {answer.text!r} is not at character {answer.start} of its context"
                raise DataError(problem, file=self.path, fix=f"The text there is {there!r}")
            found.append(answer)
        if not found:
            fix = "SQuAD v1.1 has an answer to every question; v2.0, with unanswerable questions, is not supported"
            raise DataError(f"{where} has no answers", file=self.path, fix=fix)
        return tuple(found)

    def text(self, node: object, key: str, where: str) -> str:
        text = self.get(node, key, str, where)
        if not text.strip():
            raise DataError(f"{where}: {key!r} is empty", file=self.path)
        return text

    def get(self, node: object, key: str, kind: type[T], where: str) -> T:
        if not isinstance(node, dict):
            raise DataError(f"{where} should be a JSON object, not {_json_type_name(node)}", file=self.path)
        if key not in node:
            raise DataError(f"{where} has no {key!r}", file=self.path, fix=f"It has: {', '.join(node) or 'nothing'}")
        value = node[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            right = _JSON_TYPE_NAMES[kind]
            raise DataError(f"{where}: {key!r} should be {right}, not {_json_type_name(value)}", file=self.path)
        return value


_JSON_TYPE_NAMES: Mapping[type, str] = {
    dict: "an object",
    list: "a list",
    str: "a string",
    int: "a whole number",
    float: "a fraction",
    bool: "true or false",
    type(None): "null",
}


def _json_type_name(value: object) -> str:
    return _JSON_TYPE_NAMES[type(value)]
