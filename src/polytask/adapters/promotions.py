"""The history of a task's aliases: ``<task>/promotions.json`` in a store, a list of decisions, oldest first.

The alias is moved and the decision is written under one lock, and only if the alias still points to the version that
the decision was based on. So a promotion by someone else in the meantime is never overwritten.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from polytask.adapters.canonical_json import canonical, parsed_json
from polytask.adapters.header import now
from polytask.adapters.store import ALIASES, PROMOTIONS, Store
from polytask.errors import PolytaskError, StoreError

MAX_BYTES = 16 << 20


def promotions(store: Store, task: str) -> list[dict[str, Any]]:
    """All decisions about a task's aliases, the oldest first.

    Raises:
        StoreError: the file is damaged.
    """
    try:
        with store._files.open(task, PROMOTIONS) as (stream, size_bytes):
            content = stream.read(min(size_bytes, MAX_BYTES))
    except FileNotFoundError:
        return []
    try:
        found = parsed_json(content, "it")
        if not isinstance(found, list) or not all(isinstance(own, dict) for own in found):
            raise StoreError("it is not a JSON list of objects")
        return found
    except PolytaskError as error:
        path = store._files.path(task, PROMOTIONS)
        raise StoreError(f"{path} is damaged: {error}. Repair it, or delete it together with the history") from error


def record_decision(
    store: Store, task: str, alias: str, before: int | None, version: int, why: Mapping[str, Any], *, moves: bool
) -> None:
    """Record a decision and, if it ``moves`` the alias, point the alias to ``version``.

    Raises:
        StoreError: the alias no longer points to ``before``, or the store cannot be written.
    """
    with store._write_errors(), store._files.lock(task):
        aliases = store._aliases(task)
        if aliases.get(alias) != before:
            now_at = aliases.get(alias)
            raise StoreError(
                f"{task}@{alias} has been moved to version {now_at} in the meantime. Run the command again"
            )
        made = {"alias": alias, "before": before, "version": version, "moved": moves, "made": now(), **why}
        store._files.write(task, PROMOTIONS, canonical([*promotions(store, task), made]).decode() + "\n")
        if moves:
            store._files.write(task, ALIASES, canonical({**aliases, alias: version}).decode() + "\n")


def roll_back(store: Store, task: str, alias: str) -> tuple[int, int]:
    """Point an alias to the version that it pointed to before its last promotion.

    Returns:
        That version, and the one that the alias pointed to until now.

    Raises:
        NoSuchAdapter: there is no such task.
        StoreError: it was not promoted from another version.
    """
    store.entry(task)
    moved = [own for own in promotions(store, task) if own.get("alias") == alias and own.get("moved")]
    at = store._aliases(task).get(alias)
    back = next((own.get("before") for own in reversed(moved) if own.get("version") == at), None)
    if at is None or back is None:
        raise StoreError(f"{task}@{alias} was not promoted from another version, so there is nothing to go back to")
    store.entry(f"{task}@{back}")
    record_decision(store, task, alias, at, back, {"why": "rolled back"}, moves=False)
    store.alias(f"{task}@{back}", alias)
    return back, at
