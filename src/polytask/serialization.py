"""Dataclasses as JSON that is hashed and kept: a field that is added later is left out while it is at its default.

Keys, digests and checkpoints cover the JSON of recipes, methods, trials and headers. The fields that these had from
the start are always written. Every later one is marked as ``ADDED``: at its default it is not written, so that the
JSON, and with it every key and digest, is what it was before the field existed; and where it is missing it is at its
default::

    @dataclass(frozen=True)
    class Recipe:
        lr: float | None = None  # from the start: always written, never missing
        averaging: float = field(default=0.0, metadata=ADDED)  # written where it is not 0.0
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from types import MappingProxyType
from typing import Any

from polytask.errors import PolytaskError, nearest

_KEY = "polytask.added"
ADDED = MappingProxyType({_KEY: True})
"""The metadata of a field that JSON may lack, because it was written before there was such a field."""


def added_fields(kind: Any) -> dict[str, Any]:
    """The defaults of the fields of a dataclass (or of an instance) that are marked as ``ADDED``, by name."""
    return {each.name: each.default for each in fields(kind) if each.metadata.get(_KEY)}


def to_json(value: Any, *, whole: bool = False) -> dict[str, Any]:
    """The fields of a dataclass by name, tuples as lists; added ones only where they are not at their default.

    Values that are dataclasses themselves stay as they are. With ``whole``, added fields at their default are there
    too: for comparisons and for people, never for what is hashed.
    """
    left_out = {} if whole else added_fields(value)
    return {
        each.name: list(own) if isinstance(own, tuple) else own
        for each in fields(value)
        if (own := getattr(value, each.name)) != left_out.get(each.name, MISSING)
    }


def checked(
    kind: type, values: object, what: str, error: type[PolytaskError], *, may_lack_defaults: bool = False
) -> dict[str, Any]:
    """``values`` as a dict, if they are the fields of the dataclass ``kind``; added ones may be missing.

    Args:
        what: what they are the fields of, for the message: ``a recipe``.
        may_lack_defaults: fields from the start may be missing too, if they have a default.

    Raises:
        error: they are no object, or a field is unknown or missing.
    """
    if not isinstance(values, Mapping):
        raise error(f"{what} is a JSON object, not {values!r:.60}")
    known = {each.name: each for each in fields(kind) if each.init}
    unknown = [str(name) for name in values if name not in known]
    missing = [name for name, of in known.items() if name not in values and not _may_lack(of, may_lack_defaults)]
    if unknown or missing:
        near = nearest(unknown[0], known) if unknown else None
        guess = f". Did you mean {near!r}?" if near else ""
        newer = ". It may have been written by a newer version of Polytask" if unknown and not near else ""
        names = _listed([*unknown, *missing])
        raise error(f"the fields of {what} are {', '.join(known)}; not matching: {names}{guess}{newer}")
    return dict(values)


def _may_lack(of: Field[Any], may_lack_defaults: bool) -> bool:
    has_default = of.default is not MISSING or of.default_factory is not MISSING
    return bool(of.metadata.get(_KEY)) or (may_lack_defaults and has_default)


def _listed(names: list[str]) -> str:
    return ", ".join(f"{name:.60}" for name in names[:5]) + (" …" if names[5:] else "")
