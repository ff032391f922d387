"""References to adapters in a store, ``spam``, ``spam@3``, ``spam@best`` or ``spam@prod``, and the file of aliases."""

from __future__ import annotations

from polytask.adapters.canonical_json import parsed_json
from polytask.adapters.header import plain_name
from polytask.adapters.hub import is_on_hub
from polytask.errors import StoreError

BEST, LATEST = "best", "latest"


def split_reference(name: str) -> tuple[str, str | None]:
    """Task and version or alias: ``("spam", "3")`` of ``spam@3``, ``("spam", None)`` of ``spam``.

    Raises:
        StoreError: one of them is not a valid name.
    """
    if is_on_hub(name):
        raise StoreError(f"{name} is on the hub, not in the store. To change it here, pull it first: polytask pull")
    task, at, selector = name.partition("@")
    plain_name(task, error=StoreError)
    return task, plain_name(selector, "a version or an alias", StoreError) if at else None


def check_alias(alias: str) -> str:
    """``alias``, if it is a valid name that has no other meaning.

    Raises:
        StoreError: it is not.
    """
    plain_name(alias, "an alias", StoreError)
    if alias.isdigit() or alias in (BEST, LATEST):
        raise StoreError(f"{alias!r} cannot be an alias: numbers, {BEST!r} and {LATEST!r} have a meaning of their own")
    return alias


def parsed_aliases(content: bytes) -> dict[str, int]:
    """The versions that aliases point to, from the content of their file.

    Raises:
        AdapterError, StoreError, UnicodeDecodeError: the content is damaged.
    """
    given = parsed_json(content.decode(), "it")
    if not isinstance(given, dict) or not all(type(version) is int for version in given.values()):
        raise StoreError("it is not a JSON object that maps aliases to versions")
    return {check_alias(alias): version for alias, version in given.items()}
