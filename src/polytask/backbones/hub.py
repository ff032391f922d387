"""Whether the Hugging Face hub can be reached. Its own client retries for half a minute before it gives up."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from huggingface_hub import constants

CONNECT_S = 5.0
"""Timeout, in seconds, of the check whether the hub is reachable."""


def is_reachable() -> bool:
    """Whether the hub accepts a connection within ``CONNECT_S`` seconds; True if that is not known or not asked."""
    if constants.HF_HUB_OFFLINE or getproxies():
        return True
    place = urlsplit(constants.ENDPOINT)
    try:
        with socket.create_connection((place.hostname or "", place.port or 443), timeout=CONNECT_S):
            return True
    except OSError:
        return False


@contextmanager
def cache_if_unreachable(source: str) -> Iterator[None]:
    """Within the block, read only the cache if ``source`` is no folder and the hub cannot be reached."""
    if Path(source).is_dir() or is_reachable():
        yield
        return
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = False
