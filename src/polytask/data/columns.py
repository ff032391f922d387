"""Finds the text, second-text and label columns of a table.

A column given by name must exist. Otherwise columns are found by their usual names, ignoring case: ``text`` and
``label`` first, then any other usual name, if it is the only one for its role. If several columns could have a role,
an error asks the user to choose.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Collection
from dataclasses import dataclass

from polytask.data.table import Table
from polytask.data.task import Kind
from polytask.errors import DataError, nearest

ROLES = ("text", "text_pair", "label")
"""The roles of columns, named as the arguments of ``find_roles``."""

PAIR_NAMES = (
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
"""Names of a text and its second text, if a table has both and no column ``text``."""

PAIR_NAME = "text_pair"
"""The name of the second text beside a column ``text``."""

TEXT_NAMES = frozenset(
    "abstract article body claim comment content description document headline message passage phrase post premise "
    "query question review sentence sentence1 sms string text1 title transcript tweet utterance".split()
)
"""Names of the text, if there is no column ``text``."""

LABEL_NAMES = frozenset(
    "category categories class classes emotion emotions gold_label intent is_duplicate is_spam polarity quality rating "
    "score sentiment similarity stance stars tag tags target targets topic topics y".split()
)
"""Names of the label, if there is no column ``label`` or ``labels``."""


QUESTION_NAMES, CONTEXT_NAMES, ANSWER_NAMES = (
    ("question", "query"),
    ("context", "passage", "paragraph"),
    ("answer", "answers"),
)
"""Names of the columns of tasks of kind ``span``."""


@dataclass(frozen=True)
class Roles:
    """Indices into a table's header; ``None`` if no column has the role."""

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
    """Find the columns by the given names, else by the usual ones.

    A pair of columns is detected only if neither ``text`` nor ``text_pair`` is given; with ``text`` alone, the task
    has single texts.

    Args:
        table: the table.
        text: the name of the text column.
        text_pair: the name of the second-text column.
        label: the name of the label column.
        needs_label: raise an error if there is no label column.

    Raises:
        DataError: a given column does not exist; a required column is not found or ambiguous; or one column has two
            roles.
    """
    named = [None if name is None else _find_named(table, name) for name in (text, text_pair, label)]
    text_at, pair_at, label_at = named
    taken = [index for index in named if index is not None]
    if len(set(taken)) < len(taken):
        fix = f"Give different columns for --text, --text-pair and --label. {_list_columns(table)}"
        raise DataError(f"column {table.header[taken[0]]!r} is given for two roles", file=table.file, fix=fix)
    if text_at is None:
        pairs = [] if text_pair is not None else _find_usual_pairs(table, taken)
        text_at, pair_at = (
            pairs[0] if len(pairs) == 1 else (_find_single(table, "text", ["text"], TEXT_NAMES, taken), pair_at)
        )
    taken = [index for index in (text_at, pair_at) if index is not None]
    if label_at is None and (needs_label or len(_find_usual(table, ["label", "labels"], LABEL_NAMES, taken)) == 1):
        label_at = _find_single(table, "label", ["label", "labels"], LABEL_NAMES, taken)
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
    """The columns of a table that a task of this kind reads. Errors are those of ``find_roles``."""
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
    """Find the question, context and answer columns by the given names, else by the usual ones.

    Arguments and errors are those of ``find_roles``.
    """
    text_at = (
        _find_single(table, "text", QUESTION_NAMES, (), (), "question") if text is None else _find_named(table, text)
    )
    pair_at = (
        _find_single(table, "text-pair", CONTEXT_NAMES, (), (text_at,), "context")
        if text_pair is None
        else _find_named(table, text_pair)
    )
    taken = (text_at, pair_at)
    if label is None and (needs_label or len(_find_usual(table, ANSWER_NAMES, (), taken)) == 1):
        label = table.header[_find_single(table, "label", ANSWER_NAMES, (), taken, "answer")]
    names = (table.header[text_at], table.header[pair_at], label)
    return find_roles(table, text=names[0], text_pair=names[1], label=names[2], needs_label=False)


def _find_named(table: Table, name: str) -> int:
    if name in table.header:
        return table.header.index(name)
    alike = [index for index, there in enumerate(table.header) if there.lower() == name.strip().lower()]
    if len(alike) == 1:
        return alike[0]
    near = nearest(name, table.header)
    guess = "" if near is None else f"Did you mean {near!r}? "
    raise DataError(f"there is no column {name!r}", file=table.file, fix=f"{guess}{_list_columns(table)}")


def _find_usual_pairs(table: Table, taken: Collection[int]) -> list[tuple[int, int]]:
    """Return the candidate pairs of columns; with a column ``text``, at most one."""
    at = {name.lower(): index for index, name in enumerate(table.header) if index not in taken}
    if "text" in at:
        return [(at["text"], at[PAIR_NAME])] if PAIR_NAME in at else []
    return [(at[first], at[second]) for first, second in PAIR_NAMES if first in at and second in at]


def _find_usual(table: Table, first: Collection[str], others: Collection[str], taken: Collection[int]) -> list[int]:
    """Return the columns with one of the ``first`` names, or else those with one of the other names."""
    for names in (first, others):
        found = [index for index, name in enumerate(table.header) if index not in taken and name.lower() in names]
        if found:
            return found
    return []


def _find_single(
    table: Table,
    role: str,
    first: Collection[str],
    others: Collection[str],
    taken: Collection[int],
    what: str | None = None,
) -> int:
    """Return the only column with a usual name for a role; ``what`` names the role in messages (default: ``role``)."""
    what = what or role
    found = _find_usual(table, first, others, taken)
    if len(found) == 1:
        return found[0]
    if found:
        which = " or ".join(_option(table, role, table.header[index]) for index in found)
        raise DataError(f"several columns could hold the {what}", file=table.file, fix=f"Say which: {which}")
    usual = {*first, *others}
    alike = [
        name
        for index, name in enumerate(table.header)
        if index not in taken and usual.intersection(re.split(r"[^a-z0-9]+", name.lower()))
    ]
    guess = f", perhaps {_option(table, role, alike[0])}" if alike else ""
    named = f"Name it with {_option(table, role)}{guess}. "
    fix = _list_columns(table) if _first_line_is_data(table) else named + _list_columns(table)
    raise DataError(f"no column has a usual name for the {what}", file=table.file, fix=fix)


def _option(table: Table, role: str, column: str | None = None) -> str:
    """How the user gives a column: ``--text-pair second`` for a file, ``text_pair="second"`` for rows in memory."""
    if table.file.startswith("<") and table.file != "<stdin>":
        return f"{role.replace('-', '_')}={json.dumps(column or 'COLUMN', ensure_ascii=False)}"
    return f"--{role}" if column is None else f"--{role} {shlex.quote(column)}"


def _list_columns(table: Table) -> str:
    if _first_line_is_data(table) and table.file.startswith("<") and table.file != "<stdin>":
        return "Its columns have no names: give it some, such as text and label, or say which with text=0, label=1"
    if _first_line_is_data(table):
        return "The first line looks like data: add a line above it with the column names, such as text and label"
    names = [repr(name) for name in table.header if name]
    there = f"The columns are: {', '.join(names[:20])}{' …' if len(names) > 20 else ''}"
    if len(names) == 1 and re.search(r"[,;]|\\t", names[0]):
        there += ". Several columns were read as one: the file's suffix does not match its separator"
    return there


def _first_line_is_data(table: Table) -> bool:
    def recurs(index: int) -> bool:
        return any(row[index] == table.header[index] for row in table.rows)

    return any(
        len(name) > 60 or re.fullmatch(r"[-+]?[\d.]+", name) is not None or recurs(index)
        for index, name in enumerate(table.header)
        if name
    )
