"""Parses lists of labels written as text by JSON, Python or NumPy, or joined by ``|``."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from polytask.data.table import Cell

SEPARATOR = "|"
_BRACKETS = {"[": "]", "(": ")", "{": "}"}
_ITEM = r"""(?:'[^']*'|"[^"]*"|[-+]?[0-9]+\.?[0-9]*(?:e[-+]?[0-9]+)?|True|False)"""
_NUMPY_ARRAY = re.compile(rf"\[\s*(?P<items>{_ITEM}(?:\s+{_ITEM})+)\s*\]")
_NUMPY_ITEM = re.compile(r"""'([^']*)'|"([^"]*)"|([^\s'"]+)""")
_EMPTY_SETS = ("set()", "frozenset()")


def parse_list(text: str) -> Cell:
    """Parse a list as JSON, Python or NumPy write it; return a text that is not a list unchanged.

    Sets and tuples count as lists. Items are not checked, so they may be no labels, such as ``null``.
    """
    text = text.strip()
    if text in _EMPTY_SETS:
        return []
    if _BRACKETS.get(text[:1]) != text[-1:]:
        return text
    if (array := _NUMPY_ARRAY.fullmatch(text)) is not None:
        return [next(filter(None, found), "") for found in _NUMPY_ITEM.findall(array["items"])]
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
        if isinstance(found, list | tuple | set):
            return sorted(found, key=str) if isinstance(found, set) else list(found)
    return text


def split_joined(text: str) -> list[str]:
    """Split a text at ``|`` into names without surrounding spaces, skipping empty ones."""
    return [part.strip() for part in text.split(SEPARATOR) if part.strip()]


def are_joined(cells: Iterable[Cell], canonical_name: Callable[[str], str]) -> bool:
    """Whether ``|`` separates labels in a column, rather than being part of a name.

    It does if at least half of the distinct texts with ``|`` share a part with another text.

    Args:
        cells: the column's cells.
        canonical_name: gives the name under which parts are compared.
    """
    texts = {cell for cell in cells if isinstance(cell, str)}
    if not any(SEPARATOR in text for text in texts):
        return False
    parts = {text: tuple(map(canonical_name, split_joined(text))) for text in texts}
    counts = Counter(part for names in {*parts.values()} for part in {*names})
    joined = {names for text, names in parts.items() if SEPARATOR in text}
    return 2 * sum(any(counts[part] > 1 for part in names) for names in joined) >= len(joined)


def first_of_minority(is_list: Sequence[bool | None]) -> int | None:
    """Return the index of the first cell of the rarer sort, list or not a list; None if there is only one sort.

    Args:
        is_list: for each cell, whether it is a list; None for cells that count as neither.
    """
    num_lists, num_others = is_list.count(True), is_list.count(False)
    return is_list.index(num_lists < num_others) if num_lists and num_others else None
