"""Keeps adapters in memory up to a budget of bytes; beyond it the least recently used are evicted.

An adapter that a request holds is never evicted, so a burst over more adapters than fit may exceed the budget until
its requests are answered. Concurrent requests for an adapter share one load.

``hold``, ``try_hold`` and ``release`` never wait for the engine: a thread of its own loads adapters, and evicts them,
which waits for the forward pass in progress.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from polytask.serving.engine import Engine


class Residency:
    """The adapters of an engine, within ``memory_bytes``. Any thread may call any method.

    Args:
        on_load: called after every load with the adapter's name, and the error or None.
    """

    def __init__(
        self, engine: Engine, memory_bytes: int, on_load: Callable[[str, Exception | None], None] | None = None
    ) -> None:
        self.engine, self.memory_bytes = engine, memory_bytes
        self.on_load = on_load or (lambda name, error: None)
        self.num_bytes = 0
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="polytask-loader")
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._holds: Counter[str] = Counter()
        self._dropped: set[str] = set()
        self._loads: dict[str, asyncio.Future[None]] = {}
        self._lock, self._moving = threading.Lock(), threading.Lock()

    def __contains__(self, name: str) -> bool:
        return name in self._sizes

    def __len__(self) -> int:
        return len(self._sizes)

    def names(self) -> list[str]:
        """The adapters in memory, least recently used first."""
        with self._lock:
            return list(self._sizes)

    async def hold(self, name: str) -> None:
        """Keep an adapter in memory until ``release``; load it if needed.

        Raises:
            PolytaskError: as ``MultiTask.load``.
        """
        while not self.try_hold(name):
            if name not in self._loads:
                load = asyncio.get_running_loop().run_in_executor(self.thread, self.load, name)
                self._loads[name] = load
                load.add_done_callback(lambda done: self._loads.pop(name, None))
            await asyncio.shield(self._loads[name])

    def try_hold(self, name: str) -> bool:
        """Hold an adapter if it is in memory; False if it is not."""
        with self._lock:
            if name not in self._sizes:
                return False
            self._sizes.move_to_end(name)
            self._holds[name] += 1
            return True

    def release(self, name: str) -> None:
        """End one ``hold``."""
        with self._lock:
            self._holds[name] -= 1
            is_free = not self._holds[name]
            if is_free:
                del self._holds[name]
            must_evict = is_free and (name in self._dropped or self.num_bytes > self.memory_bytes)
        if must_evict:
            self._evict_later()

    def load(self, name: str) -> None:
        """Load an adapter, and evict others if the budget is exceeded.

        Raises:
            PolytaskError: as ``MultiTask.load``.
        """
        with self._moving:
            if name in self._sizes:
                return
            try:
                self.engine.load(name)
            except Exception as error:
                self.on_load(name, error)
                raise
            with self._lock:
                self._sizes[name] = self.engine.num_bytes(name)
                self.num_bytes += self._sizes[name]
                self._dropped.discard(name)
        self.on_load(name, None)
        self.evict(keep=name)

    def drop(self, name: str) -> None:
        """Evict an adapter as soon as no request holds it."""
        with self._lock:
            if name not in self._sizes:
                return
            self._dropped.add(name)
        self._evict_later()

    def evict(self, keep: str | None = None) -> None:
        """Evict the dropped adapters that are not held, and the least recently used ones beyond the budget."""
        while True:
            with self._moving:
                with self._lock:
                    name = self._next_to_evict(keep)
                    if name is None:
                        return
                    self.num_bytes -= self._sizes.pop(name)
                    self._dropped.discard(name)
                self.engine.unload(name)

    def close(self) -> None:
        """Stop the loading thread."""
        self.thread.shutdown(wait=False, cancel_futures=True)

    def _next_to_evict(self, keep: str | None) -> str | None:
        free = (name for name in self._sizes if not self._holds[name] and name != keep)
        if self.num_bytes > self.memory_bytes:
            return next(free, None)
        return next((name for name in self._dropped if not self._holds[name]), None)

    def _evict_later(self) -> None:
        try:
            self.thread.submit(self.evict)
        except RuntimeError:  # the server is shutting down
            return
