"""Connections to clients: timeouts for slow ones, and fewer than the process can have open files.

When a process runs out of file descriptors, asyncio writes thousands of log lines a second and accepts nobody. So idle
connections make room for new ones before that happens.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from polytask.serving.limits import Limits

if sys.platform != "win32":
    import resource

MAX_FILES, WINDOWS_FILES = 65_536, 1024
OTHER_FILES = 64
"""File descriptors for everything but connections: adapters that are loaded, logs, libraries."""
MAX_BACKLOG = 2048


def connection_limits() -> tuple[int, int]:
    """The maximum number of connections, and of those that are accepted at once."""
    free = max(2, max_open_files() - OTHER_FILES)
    backlog = min(MAX_BACKLOG, free // 2)
    return free - backlog, backlog


def max_open_files() -> int:
    """Raise the number of files that this process may open as far as the system allows, and return it."""
    if sys.platform == "win32":
        return WINDOWS_FILES
    soft, hard = (MAX_FILES if n == resource.RLIM_INFINITY else n for n in resource.getrlimit(resource.RLIMIT_NOFILE))
    wanted = min(hard, MAX_FILES)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    return max(soft, wanted)


class BoundedProtocol(H11Protocol):
    """HTTP/1.1 with timeouts for a request's head and for reading a response, and a bounded number of connections.

    The transport's write buffer has no high-water mark, so that ``pause_writing`` is called whenever the client leaves
    data unread, and ``resume_writing`` once it has read all of it.
    """

    head_s, send_s = Limits.body_s, Limits.send_s
    max_connections = 1024
    _head_timer: asyncio.TimerHandle | None = None
    _send_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start waiting for the first head. Beyond the limit, the connection that is idle for longest is closed."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)
        self.idle_since = self.loop.time()
        self._start_head_timer()
        if len(self.connections) > self.max_connections:
            idle = [one for one in self.connections if isinstance(one, BoundedProtocol) and one.is_idle]
            min(idle, key=lambda one: one.idle_since, default=self).transport.abort()

    def data_received(self, data: bytes) -> None:
        """Keep the timer running while a head is incomplete."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self.idle_since = self.loop.time()
            self._stop_head_timer()
        elif self._head_timer is None:
            self._start_head_timer()

    @property
    def is_idle(self) -> bool:
        """Whether it waits for a request, or for the rest of a request's head."""
        is_busy = self.cycle is not None and not self.cycle.response_complete
        return not is_busy and not self.transport.is_closing()

    def pause_writing(self) -> None:
        """Start waiting for the client to read."""
        super().pause_writing()
        self._stop_send_timer()
        self._send_timer = self.loop.call_later(self.send_s, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop waiting: the client has read everything."""
        self._stop_send_timer()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers."""
        self._stop_head_timer()
        self._stop_send_timer()
        super().connection_lost(exc)

    def _start_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(self.head_s, self._close_if_idle)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_send_timer(self) -> None:
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None

    def _close_if_idle(self) -> None:
        self._head_timer = None
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.close()
