"""The header's fields about where an adapter's weights come from: ``source`` and ``start``.

``source`` is the file of another library that it was read from. ``start`` are the adapters whose weighted average its
training started from; an adapter that was not trained is that average itself (``averaging.average_adapters``)::

    {"adapters": [{"name": "mood@1", "tensor_digest": "3f…", "weight": 0.5}, …], "head": "fresh"}

``head`` is ``fresh`` (started from random weights), ``taken`` (from all of them, averaged as the rest), or the name of
the one that it was taken from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from polytask.adapters.schema import Schema, check_filled, closed
from polytask.errors import AdapterError

DIGEST = re.compile(r"[0-9a-f]{64}")
FRESH, TAKEN = "fresh", "taken"
MAX_ADAPTERS = 1024

_SOURCE: Schema = {"format": (str,), "name": (str,), "revision": (str,), "sha256": (str,)}
_START: Schema = {"adapters": (list,), "head": (str,)}
_PARENT: Schema = {"name": (str,), "tensor_digest": (str,), "weight": (float, int)}


def check_source(source: object) -> None:
    """Refuse a ``source`` that is not one.

    Raises:
        AdapterError: a field is missing, unknown, of the wrong type or out of range.
    """
    if source is None:
        return
    of = closed("'source'", source, _SOURCE)
    check_filled("'source'", of, ("format", "name"))
    _check_digest("'sha256' of 'source'", of["sha256"])


def check_start(start: object) -> None:
    """Refuse a ``start`` that is not one.

    Raises:
        AdapterError: a field is missing, unknown, of the wrong type or out of range.
    """
    if start is None:
        return
    of = closed("'start'", start, _START)
    parents = [closed("an adapter of 'start'", parent, _PARENT) for parent in of["adapters"]]
    if not 1 <= len(parents) <= MAX_ADAPTERS:
        raise AdapterError(f"'start' names {len(parents)} adapters; it can be 1 to {MAX_ADAPTERS:,}")
    for parent in parents:
        check_filled("an adapter of 'start'", parent, ("name",))
        _check_digest("'tensor_digest' of an adapter of 'start'", parent["tensor_digest"])
        if not 0 <= parent["weight"] <= 1:
            raise AdapterError(f"'weight' of an adapter of 'start' is {parent['weight']!r}; it must be from 0 to 1")
    if of["head"] not in (FRESH, TAKEN, *(parent["name"] for parent in parents)):
        raise AdapterError(f"'head' of 'start' is {of['head']!r:.80}; it can be {FRESH}, {TAKEN} or an adapter's name")


def start_in_words(start: Mapping[str, Any]) -> str:
    """``mood@1, with a fresh head`` or ``the average of mood@1 (0.7) and spam@2 (0.3), with their head``."""
    parents = [(parent["name"], parent["weight"]) for parent in start["adapters"]]
    heads = {FRESH: "a fresh head", TAKEN: "its head" if len(parents) == 1 else "their averaged head"}
    head = heads.get(start["head"], f"the head of {start['head']}")
    if len(parents) == 1:
        return f"{parents[0][0]}, with {head}"
    *others, last = [f"{name} ({weight:.3g})" for name, weight in parents]
    return f"the average of {', '.join(others)} and {last}, with {head}"


def _check_digest(what: str, digest: str) -> None:
    if not DIGEST.fullmatch(digest):
        raise AdapterError(f"{what} is {digest!r:.80}; it must be 64 hexadecimal digits")
