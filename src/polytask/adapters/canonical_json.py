"""JSON in one canonical form, and its strict reading: no duplicate keys, no NaN or infinity."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from polytask.errors import AdapterError


def canonical(value: object) -> bytes:
    """The canonical JSON of ``value``: sorted keys, no spaces, UTF-8.

    Raises:
        AdapterError: ``value`` holds something that JSON cannot, such as NaN.
    """
    try:
        text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise AdapterError(f"this cannot be written as JSON: {error}") from error


def parsed_json(text: str | bytes, what: str) -> Any:
    """Parse JSON strictly; ``what`` names it in messages.

    Raises:
        AdapterError: it is not JSON, nests too deeply, has a key twice, or holds NaN or an infinity.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_finite)
    except (ValueError, RecursionError) as error:
        raise AdapterError(f"{what} is not valid JSON: {error}") from error


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("it has a key twice")
    return found


def _finite(constant: str) -> Any:
    raise ValueError(f"{constant} is not a JSON number")
