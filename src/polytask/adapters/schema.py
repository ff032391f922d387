"""Closed JSON objects: every field known, present where it must be, and of the right type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from polytask.errors import AdapterError, nearest

Schema = Mapping[str, tuple[type, ...]]
"""The types that each field may have."""


def closed(what: str, given: object, schema: Schema, optional: Schema = MappingProxyType({})) -> dict[str, Any]:
    """``given``, if it has all fields of ``schema``, none but those and ``optional`` ones, and the right types.

    Raises:
        AdapterError: it has not; ``what`` names it in the message.
    """
    if not isinstance(given, dict):
        raise AdapterError(f"{what} is a {type(given).__name__}; it must be a JSON object")
    known = {**schema, **optional}
    for problem, names in (("unknown", set(given) - set(known)), ("missing", set(schema) - set(given))):
        if names:
            near = nearest(min(map(str, names)), known) if problem == "unknown" else None
            guess = f". Did you mean {near!r}?" if near else ""
            raise AdapterError(f"{what} has {problem} fields: {', '.join(sorted(map(repr, names)))}{guess}")
    for name, types in known.items():
        if name in given and type(given[name]) not in types:
            raise AdapterError(
                f"{name!r} of {what} is a {type(given[name]).__name__}; it must be a {types[0].__name__}"
            )
    return given


def check_filled(what: str, of: Mapping[str, Any], names: Sequence[str]) -> None:
    """Refuse empty fields.

    Raises:
        AdapterError: with the first of ``names`` that is empty.
    """
    for name in names:
        if not of[name]:
            raise AdapterError(f"{name!r} of {what} is empty")
