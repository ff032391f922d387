"""A fair lock: threads get it in the order in which they asked for it.

``threading.Lock`` is not fair: a thread that releases it and acquires it again at once, as a training loop does between
two steps, can keep the other threads waiting until it ends.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Any


class FairLock:
    """A reentrant lock, first come, first served. A copy, also a pickled one, is a new lock that is not held."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._waiting: deque[tuple[int, threading.Lock]] = deque()
        self._owner: int | None = None
        self._depth = 0

    def __enter__(self) -> None:
        thread = threading.get_ident()
        if self._owner == thread:
            self._depth += 1
            return
        turn = threading.Lock()
        with self._mutex:
            if self._owner is None:
                self._owner, self._depth = thread, 1
                return
            turn.acquire()
            self._waiting.append((thread, turn))
        try:
            turn.acquire()  # released by the previous owner
        except BaseException:  # Ctrl-C while waiting
            self._stop_waiting(thread, turn)
            raise

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if not self._depth:
            with self._mutex:
                self._pass_on()

    def _pass_on(self) -> None:
        """Make the thread that has waited longest the owner."""
        self._owner = None
        if self._waiting:
            self._owner, turn = self._waiting.popleft()
            self._depth = 1
            turn.release()

    def _stop_waiting(self, thread: int, turn: threading.Lock) -> None:
        """Take a thread out of the queue; pass the lock on if the thread has just become its owner."""
        with self._mutex:
            if (thread, turn) in self._waiting:
                self._waiting.remove((thread, turn))
            elif self._owner == thread:
                self._pass_on()

    def __reduce__(self) -> Any:
        return FairLock, ()
