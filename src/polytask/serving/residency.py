"""Which adapters are in memory: all that fit a budget of bytes; beyond it the least recently used leave.

What is held by a request never leaves, so a burst over more adapters than fit goes over the budget until its requests
are answered. An adapter is read once, however many ask.

``hold``, ``try_hold`` and ``release`` never wait for the engine: reading adapters and taking them away, which waits for
the forward pass in flight, is done by a thread of its own.
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
        on_load: told of every load: its name and the error, None where it went well.
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
        self._leaving: set[str] = set()
        self._loads: dict[str, asyncio.Future[None]] = {}
        self._lock, self._moving = threading.Lock(), threading.Lock()

    def __contains__(self, name: str) -> bool:
        return name in self._sizes

    def __len__(self) -> int:
        return len(self._sizes)

    def names(self) -> list[str]:
        """Least recently used first."""
        with self._lock:
            return list(self._sizes)

    async def hold(self, name: str) -> None:
        """Keep an adapter in memory until ``release``, read from the store if need be.

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
        """Hold an adapter that is in memory; whether it is."""
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
            must_sweep = is_free and (name in self._leaving or self.num_bytes > self.memory_bytes)
        if must_sweep:
            self._later()

    def load(self, name: str) -> None:
        """Read an adapter into memory, and let others leave for it.

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
                self._leaving.discard(name)
        self.on_load(name, None)
        self.sweep(keep=name)

    def drop(self, name: str) -> None:
        """Let an adapter leave memory as soon as nobody holds it."""
        with self._lock:
            if name not in self._sizes:
                return
            self._leaving.add(name)
        self._later()

    def sweep(self, keep: str | None = None) -> None:
        """Take away what nobody holds: all that is to leave, and what is beyond the budget."""
        while True:
            with self._moving:
                with self._lock:
                    name = self._next_to_leave(keep)
                    if name is None:
                        return
                    self.num_bytes -= self._sizes.pop(name)
                    self._leaving.discard(name)
                self.engine.unload(name)

    def close(self) -> None:
        """End the thread that loads."""
        self.thread.shutdown(wait=False, cancel_futures=True)

    def _next_to_leave(self, keep: str | None) -> str | None:
        free = (name for name in self._sizes if not self._holds[name] and name != keep)
        if self.num_bytes > self.memory_bytes:
            return next(free, None)
        return next((name for name in self._leaving if not self._holds[name]), None)

    def _later(self) -> None:
        try:
            self.thread.submit(self.sweep)
        except RuntimeError:  # the server is closing
            return
