"""Dataclasses as JSON whose hash does not change when a field is added.

Keys, digests and checkpoints cover the JSON of recipes, methods, trials and headers. Their original fields are always
written. A later field is marked ``ADDED``: it is not written while it has its default value, so the JSON, and with it
every key and digest, is the same as before the field existed. A missing field has its default value::

    @dataclass(frozen=True)
    class Recipe:
        lr: float | None = None  # original: always written, never missing
        averaging: float = field(default=0.0, metadata=ADDED)  # written only if it is not 0.0
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from types import MappingProxyType
from typing import Any

from polytask.errors import PolytaskError, nearest

_KEY = "polytask.added"
ADDED = MappingProxyType({_KEY: True})
"""The metadata of a field that was added later, and may be missing in JSON."""


def added_fields(kind: Any) -> dict[str, Any]:
    """The defaults of the fields of a dataclass (or an instance of one) that are marked ``ADDED``, by name."""
    return {each.name: each.default for each in fields(kind) if each.metadata.get(_KEY)}


def to_json(value: Any, *, whole: bool = False) -> dict[str, Any]:
    """The fields of a dataclass by name, with tuples as lists; values that are dataclasses are not converted.

    Args:
        value: an instance of a dataclass.
        whole: include added fields that have their default value. For comparison and display, never for hashing.
    """
    left_out = {} if whole else added_fields(value)
    return {
        each.name: list(own) if isinstance(own, tuple) else own
        for each in fields(value)
        if (own := getattr(value, each.name)) != left_out.get(each.name, MISSING)
    }


def with_tuples(value: Any) -> Any:
    """JSON with tuples for lists."""
    if isinstance(value, Mapping):
        return {name: with_tuples(own) for name, own in value.items()}
    return tuple(map(with_tuples, value)) if isinstance(value, list | tuple) else value


def checked(
    kind: type, values: object, what: str, error: type[PolytaskError], *, may_lack_defaults: bool = False
) -> dict[str, Any]:
    """``values`` as a dict, after checking that they are the fields of the dataclass ``kind``.

    Args:
        kind: the dataclass; its added fields may be missing.
        values: the parsed JSON.
        what: what they describe, for the message: ``a recipe``.
        error: the class of the error to raise.
        may_lack_defaults: original fields may be missing too if they have a default.

    Raises:
        error: ``values`` is not an object, or a field is unknown or missing.
    """
    if not isinstance(values, Mapping):
        raise error(f"{what} is a JSON object, not {values!r:.60}")
    known = {each.name: each for each in fields(kind) if each.init}
    unknown = [str(name) for name in values if name not in known]
    missing = [name for name, of in known.items() if name not in values and not _is_optional(of, may_lack_defaults)]
    if unknown or missing:
        near = nearest(unknown[0], known) if unknown else None
        guess = f". Did you mean {near!r}?" if near else ""
        newer = ". It may have been written by a newer version of Polytask" if unknown and not near else ""
        names = _name_list([*unknown, *missing])
        raise error(f"the fields of {what} are {', '.join(known)}; not matching: {names}{guess}{newer}")
    return dict(values)


def _is_optional(of: Field[Any], may_lack_defaults: bool) -> bool:
    has_default = of.default is not MISSING or of.default_factory is not MISSING
    return bool(of.metadata.get(_KEY)) or (may_lack_defaults and has_default)


def _name_list(names: list[str]) -> str:
    return ", ".join(f"{name:.60}" for name in names[:5]) + (" …" if names[5:] else "")
