"""Lists of labels in texts: what JSON, Python and NumPy write for a list, and names joined by ``|``."""

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
_OF_NUMPY = re.compile(rf"\[\s*(?P<items>{_ITEM}(?:\s+{_ITEM})+)\s*\]")
_NUMPY_ITEM = re.compile(r"""'([^']*)'|"([^"]*)"|([^\s'"]+)""")
_EMPTY_SETS = ("set()", "frozenset()")


def list_in(text: str) -> Cell:
    """The list that a text spells as JSON, Python or NumPy write it; the text itself where it spells none.

    Sets and tuples count as lists. What stands in the list may be no label: ``null``, say.
    """
    text = text.strip()
    if text in _EMPTY_SETS:
        return []
    if _BRACKETS.get(text[:1]) != text[-1:]:
        return text
    if (array := _OF_NUMPY.fullmatch(text)) is not None:
        return [next(filter(None, found), "") for found in _NUMPY_ITEM.findall(array["items"])]
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
        if isinstance(found, list | tuple | set):
            return sorted(found, key=str) if isinstance(found, set) else list(found)
    return text


def parts_of(text: str) -> list[str]:
    """The names that a text joins by ``|``, without spaces around them; empty ones are passed over."""
    return [part.strip() for part in text.split(SEPARATOR) if part.strip()]


def are_joined(cells: Iterable[Cell], meaning: Callable[[str], str]) -> bool:
    """Whether a ``|`` in the texts of a column stands between labels, and is not part of a name.

    It does where at least half of the different texts with a ``|`` have a part that another text has too, alone or
    beside other parts. ``meaning`` is the one name of a part in all formats.
    """
    texts = {cell for cell in cells if isinstance(cell, str)}
    if not any(SEPARATOR in text for text in texts):
        return False
    parts = {text: tuple(map(meaning, parts_of(text))) for text in texts}
    counts = Counter(part for names in {*parts.values()} for part in {*names})
    joined = {names for text, names in parts.items() if SEPARATOR in text}
    return 2 * sum(any(counts[part] > 1 for part in names) for names in joined) >= len(joined)


def odd_one(is_list: Sequence[bool | None]) -> int | None:
    """Of cells that spell a list (or do not; None counts for neither), the first of those that are fewer.

    None where all are of one sort.
    """
    num_lists, num_others = is_list.count(True), is_list.count(False)
    return is_list.index(num_lists < num_others) if num_lists and num_others else None
