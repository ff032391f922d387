"""Defers Ctrl-C until the current training step has ended."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Record the first Ctrl-C within the block instead of raising; a second one raises at once.

    Gives a function that tells whether there was one. In a thread other than the main one, Ctrl-C is not deferred.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    previous = signal.getsignal(signal.SIGINT)
    seen: list[int] = []

    def record(number: int, _: object) -> None:
        seen.append(number)
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, record)
    try:
        yield lambda: bool(seen)
    finally:
        signal.signal(signal.SIGINT, previous)
