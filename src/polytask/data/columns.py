"""Which columns of a table hold the texts, the second texts and the labels.

A column that was asked for is taken, or refused if it is not there. Otherwise the usual names decide, in
capital or small letters: ``text`` and ``label`` before all others, and then any other usual name that is the
only one of its role in the table. Between two that could both be meant nothing is chosen: the user is asked.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection
from dataclasses import dataclass

from polytask.data.table import Table
from polytask.data.task import Kind
from polytask.errors import DataError, nearest

ROLES = ("text", "text_pair", "label")
"""What a column can be, as the arguments of ``find_roles`` are called."""

PAIRS = (
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("sentence1", "sentence2"),
    ("sentence_1", "sentence_2"),
    ("sentence_a", "sentence_b"),
    ("question1", "question2"),
    ("#1 string", "#2 string"),
    ("premise", "hypothesis"),
    ("question", "sentence"),
    ("question", "passage"),
    ("question", "context"),
    ("query", "passage"),
    ("query", "document"),
    ("claim", "evidence"),
)
"""Names that stand for a text and its second text where a table has both, and none is called ``text``."""

SECOND_TEXT = "text_pair"
"""The name that stands for the second text of ``text``."""

TEXTS = frozenset(
    "abstract article body claim comment content description document headline message passage phrase post premise "
    "query question review sentence sentence1 sms string text1 title transcript tweet utterance".split()
)
"""Names that stand for the text where none is called ``text``."""

LABELS = frozenset(
    "category categories class classes emotion emotions gold_label intent is_duplicate is_spam polarity quality rating "
    "score sentiment similarity stance stars tag tags target targets topic topics y".split()
)
"""Names that stand for the label where none is called ``label`` or ``labels``."""


QUESTIONS, CONTEXTS, ANSWERS = ("question", "query"), ("context", "passage", "paragraph"), ("answer", "answers")
"""Names that stand for the columns of a task of spans."""


@dataclass(frozen=True)
class Roles:
    """Indices into a table's header; ``None`` where no column has the role."""

    text: int
    pair: int | None
    label: int | None


def find_roles(
    table: Table,
    *,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | None = None,
    needs_label: bool = True,
) -> Roles:
    """Find the columns by the names given, else by the usual ones.

    A pair of columns is found by itself only where neither ``text`` nor ``text_pair`` is given: a named text
    stands alone unless its second text is named too.

    Raises:
        DataError: a column that was named is not there; one that is needed is not found, or several could be
            meant; two roles are given to one column.
    """
    named = [None if name is None else _named(table, name) for name in (text, text_pair, label)]
    text_at, pair_at, label_at = named
    taken = [index for index in named if index is not None]
    if len(set(taken)) < len(taken):
        fix = f"Name another column for each of --text, --text-pair and --label. {_there(table)}"
        raise DataError(f"{table.header[taken[0]]!r} is named for two different columns", file=table.file, fix=fix)
    if text_at is None:
        pairs = [] if text_pair is not None else _usual_pairs(table, taken)
        text_at, pair_at = pairs[0] if len(pairs) == 1 else (_the_one(table, "text", ["text"], TEXTS, taken), pair_at)
    taken = [index for index in (text_at, pair_at) if index is not None]
    if label_at is None and (needs_label or len(_usual(table, ["label", "labels"], LABELS, taken)) == 1):
        label_at = _the_one(table, "label", ["label", "labels"], LABELS, taken)
    return Roles(text_at, pair_at, label_at)


def roles_in(
    table: Table,
    kind: Kind | None,
    *,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | None = None,
    needs_label: bool = True,
) -> Roles:
    """The columns of a table that a task of this kind reads. Errors as of ``find_roles``."""
    find = find_span_roles if kind == "span" else find_roles
    return find(table, text=text, text_pair=text_pair, label=label, needs_label=needs_label)


def find_span_roles(
    table: Table,
    *,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | None = None,
    needs_label: bool = True,
) -> Roles:
    """Find the columns of questions, contexts and answers by the names given, else by the usual ones.

    Raises:
        DataError: as ``find_roles``.
    """
    text_at = _the_one(table, "text", QUESTIONS, (), (), "question") if text is None else _named(table, text)
    pair_at = (
        _the_one(table, "text-pair", CONTEXTS, (), (text_at,), "context")
        if text_pair is None
        else _named(table, text_pair)
    )
    taken = (text_at, pair_at)
    if label is None and (needs_label or len(_usual(table, ANSWERS, (), taken)) == 1):
        label = table.header[_the_one(table, "label", ANSWERS, (), taken, "answer")]
    names = (table.header[text_at], table.header[pair_at], label)
    return find_roles(table, text=names[0], text_pair=names[1], label=names[2], needs_label=False)


def _named(table: Table, name: str) -> int:
    if name in table.header:
        return table.header.index(name)
    alike = [index for index, there in enumerate(table.header) if there.lower() == name.strip().lower()]
    if len(alike) == 1:
        return alike[0]
    near = nearest(name, table.header)
    guess = "" if near is None else f"Did you mean {near!r}? "
    raise DataError(f"there is no column {name!r}", file=table.file, fix=f"{guess}{_there(table)}")


def _usual_pairs(table: Table, taken: Collection[int]) -> list[tuple[int, int]]:
    """The pairs of columns that could be meant; more than one only if no column is called ``text``."""
    at = {name.lower(): index for index, name in enumerate(table.header) if index not in taken}
    if "text" in at:
        return [(at["text"], at[SECOND_TEXT])] if SECOND_TEXT in at else []
    return [(at[first], at[second]) for first, second in PAIRS if first in at and second in at]


def _usual(table: Table, first: Collection[str], others: Collection[str], taken: Collection[int]) -> list[int]:
    """The columns called by one of the ``first`` names; only if there are none, by one of the others."""
    for names in (first, others):
        found = [index for index, name in enumerate(table.header) if index not in taken and name.lower() in names]
        if found:
            return found
    return []


def _the_one(
    table: Table,
    role: str,
    first: Collection[str],
    others: Collection[str],
    taken: Collection[int],
    what: str | None = None,
) -> int:
    """The one column with a usual name for the role that is asked for by ``--role`` and called ``what``."""
    what = what or role
    found = _usual(table, first, others, taken)
    if len(found) == 1:
        return found[0]
    if found:
        which = " or ".join(f"--{role} {shlex.quote(table.header[index])}" for index in found)
        raise DataError(f"several columns could hold the {what}", file=table.file, fix=f"Say which: {which}")
    usual = {*first, *others}
    alike = [
        name
        for index, name in enumerate(table.header)
        if index not in taken and usual.intersection(re.split(r"[^a-z0-9]+", name.lower()))
    ]
    guess = f", perhaps --{role} {shlex.quote(alike[0])}" if alike else ""
    fix = _there(table) if _first_line_is_data(table) else f"Name it with --{role}{guess}. {_there(table)}"
    raise DataError(f"no column has a usual name for the {what}", file=table.file, fix=fix)


def _there(table: Table) -> str:
    if _first_line_is_data(table):
        return "The first line looks like data: put a line above it that names the columns, such as text and label"
    names = [repr(name) for name in table.header if name]
    there = f"The columns are: {', '.join(names[:20])}{' …' if len(names) > 20 else ''}"
    if len(names) == 1 and re.search(r"[,;]|\\t", names[0]):
        there += ". These are several in one: the ending of the file's name does not fit what separates its columns"
    return there


def _first_line_is_data(table: Table) -> bool:
    def recurs(index: int) -> bool:
        return any(row[index] == table.header[index] for row in table.rows)

    return any(
        len(name) > 60 or re.fullmatch(r"[-+]?[\d.]+", name) is not None or recurs(index)
        for index, name in enumerate(table.header)
        if name
    )
