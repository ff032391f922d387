"""Packs that take no time, for launchers. Nothing heavy is imported: a process of its own imports this."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from polytask.errors import UnknownName


def counted(pack: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Tells how far it counts and where it runs."""
    for number in range(pack["upto"]):
        yield {"number": number, "pack": pack["name"], "device": pack["device"]}
    if pack.get("fails"):
        raise ValueError(f"{pack['name']} cannot count on")


def unknown(pack: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Refuses its pack."""
    yield {"number": 0}
    raise UnknownName("pack", pack["name"], ["p1"])


def ends(pack: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Its process ends within it."""
    yield {"number": 0}
    os._exit(9)
