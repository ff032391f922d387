"""SQuAD v1.1's JSON files as rows and as a table."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from os import PathLike
from typing import TYPE_CHECKING, Any, TypeVar

from polytask.data.folders import read_whole
from polytask.data.table import Table
from polytask.data.task import Answer, Rows
from polytask.errors import DataError

if TYPE_CHECKING:
    pass

T = TypeVar("T")


def read_squad(path: str | PathLike[str], *, labelled: bool = True, limit: int | None = None) -> Rows:
    """Read SQuAD v1.1 JSON, gzipped or not: questions as ``texts``, contexts as ``pairs``, the
    questions' ids, and as each target a tuple of ``Answer``.

    ``labelled=False`` reads questions alone, whether or not answers stand beside them. ``limit`` keeps the
    first questions. Raises ``DataError`` naming the place in the file.
    """
    return read_with_titles(path, labelled, limit)[0]


def squad_table(path: str | PathLike[str], *, labelled: bool = True) -> Table:
    """SQuAD v1.1 JSON as a table with a row a question: ``id``, ``title`` (of the article), ``context``, ``question``
    and, if it is to be ``labelled``, ``answers``. Errors are those of ``read_squad``.
    """
    rows, titles = read_with_titles(path, labelled, None)
    columns: dict[str, Sequence[Any] | None] = {"id": rows.ids, "title": titles, "context": rows.pairs}
    columns |= {"question": rows.texts, "answers": rows.targets}
    there = {name: column for name, column in columns.items() if column is not None}
    return Table(str(path), tuple(there), list(zip(*there.values(), strict=True)), range(1, len(rows) + 1))


def read_with_titles(path: str | PathLike[str], labelled: bool, limit: int | None) -> tuple[Rows, list[str]]:
    """The questions and the titles of their articles."""
    file = _File(path)
    texts, pairs, ids, targets, titles = [], [], [], [], []
    for where, title, context, qa in islice(file.questions(), limit):
        titles.append(title)
        texts.append(file.text(qa, "question", where))
        pairs.append(context)
        ids.append(file.text(qa, "id", where))
        if labelled:
            targets.append(file.answers(qa, context, where))
    if not texts:
        raise DataError("the file holds no questions", file=path)
    twice = [id for id, count in Counter(ids).items() if count > 1]
    if twice:
        raise DataError(f"{len(twice)} ids stand more than once, among them {twice[0]!r}", file=path)
    return Rows(texts, pairs, targets if labelled else None, ids), titles


@dataclass(frozen=True)
class _File:
    """A JSON file that says where in it something is wrong."""

    path: str | PathLike[str]

    def questions(self) -> Iterator[tuple[str, str, str, object]]:
        """Each question's place in the file, its article's title, its context and its JSON."""
        try:
            root = json.loads(read_whole(self.path))
        except json.JSONDecodeError as error:
            raise DataError(f"not JSON ({error.msg})", file=self.path, line=error.lineno) from error
        except RecursionError as error:
            raise DataError("not SQuAD JSON: it is nested too deep", file=self.path) from error
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
            stands = context[max(answer.start, 0) :][: len(answer.text)]
            if answer.start < 0 or stands != answer.text:
                problem = (
                    f"{here}: the answer {answer.text!r} does not stand at character {answer.start} of its context"
                )
                raise DataError(problem, file=self.path, fix=f"There stands {stands!r}")
            found.append(answer)
        if not found:
            fix = "SQuAD v1.1 has an answer to every question (v2.0, which has not, is not supported)"
            raise DataError(f"{where} has no answers", file=self.path, fix=fix)
        return tuple(found)

    def text(self, node: object, key: str, where: str) -> str:
        text = self.get(node, key, str, where)
        if not text.strip():
            raise DataError(f"{where}: {key!r} is empty", file=self.path)
        return text

    def get(self, node: object, key: str, kind: type[T], where: str) -> T:
        if not isinstance(node, dict):
            raise DataError(f"{where} should be a JSON object, not {_json_name(node)}", file=self.path)
        if key not in node:
            raise DataError(f"{where} has no {key!r}", file=self.path, fix=f"It has: {', '.join(node) or 'nothing'}")
        value = node[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            right = _JSON_NAMES[kind]
            raise DataError(f"{where}: {key!r} should be {right}, not {_json_name(value)}", file=self.path)
        return value


_JSON_NAMES: Mapping[type, str] = {
    dict: "an object",
    list: "a list",
    str: "a string",
    int: "a whole number",
    float: "a fraction",
    bool: "true or false",
    type(None): "null",
}


def _json_name(value: object) -> str:
    return _JSON_NAMES[type(value)]
