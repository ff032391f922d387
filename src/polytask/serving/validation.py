"""Reports pydantic's errors about a request as one fault that names the field and says what was expected.

pydantic lists an error for every alternative of a union, and names the alternatives in the location: ``input.str`` and
``input.list[…].0`` for one field. Reported is the alternative that the client most likely meant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from polytask.serving.faults import Fault
from polytask.serving.schemas import REFERENCE_PATTERN, TASK_PATTERN

MAX_PARAM_CHARS = 200
_ALTERNATIVES = frozenset(("str", "list"))
_PREFIX = "Input should be "
_CHARACTERS = "letters, digits, '.', '_' and '-'"
_MESSAGES = {
    "extra_forbidden": "there is no such field",
    REFERENCE_PATTERN: f"expected TASK, TASK@VERSION or TASK@ALIAS, of {_CHARACTERS}",
    TASK_PATTERN: f"expected a name of 1 to 64 {_CHARACTERS}",
}
"""By the type of an error, or the pattern that a text does not match."""


def malformed(errors: Sequence[Mapping[str, Any]]) -> Fault:
    """The fault for the errors of a ``RequestValidationError``; there is at least one."""
    first = errors[0]
    if first["type"] == "json_invalid":
        reason, place = first["ctx"]["error"], first["loc"][-1]
        return Fault("malformed", f"the body is not JSON: {reason} at character {place}")
    if first["type"] == "model_attributes_type":
        return Fault("malformed", "expected a JSON object, with the header Content-Type: application/json")
    best = _clearest(errors)
    return Fault("malformed", _message(best), param=".".join(map(str, _place(best[0])))[:MAX_PARAM_CHARS] or None)


def _clearest(errors: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The deepest errors of the first field, but a wrong length or value rather than a wrong type."""
    own = [error for error in errors if _place(error)[:1] == _place(errors[0])[:1]]
    depth = max(len(_place(error)) for error in own)
    deepest = [error for error in own if len(_place(error)) == depth]
    return [error for error in deepest if not error["type"].endswith("_type")][:1] or deepest


def _place(error: Mapping[str, Any]) -> list[str | int]:
    """Where the error is, without ``body`` and the names of alternatives."""
    _, *place = error["loc"]
    return [part for at, part in enumerate(place) if at == 0 or isinstance(part, int) or _is_field(part)]


def _is_field(part: str) -> bool:
    return part.isidentifier() and part not in _ALTERNATIVES


def _message(errors: Sequence[Mapping[str, Any]]) -> str:
    """``Input should be a valid string or a valid list``."""
    kind = errors[0].get("ctx", {}).get("pattern", errors[0]["type"])
    if kind in _MESSAGES:
        return _MESSAGES[kind]
    first, *others = dict.fromkeys(str(error["msg"]).replace(" after validation", "") for error in errors)
    return " or ".join([first, *(other.removeprefix(_PREFIX) for other in others if other.startswith(_PREFIX))])
