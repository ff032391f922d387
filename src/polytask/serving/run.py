"""Runs the application under uvicorn, with timeouts for slow clients and a graceful shutdown.

On SIGTERM (or Ctrl-C) the server reports that it is not ready, answers new requests with 503, finishes the accepted
ones, and only then stops listening, so that no request is cut off. A second signal stops it at once.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from polytask.errors import PolytaskError
from polytask.serving.app import create_app
from polytask.serving.auth import Keys
from polytask.serving.limits import Limits
from polytask.serving.logs import configure
from polytask.serving.middleware import is_loopback
from polytask.serving.service import Service

MAX_HEAD_BYTES = 32 << 10
KEEP_ALIVE_S = 75
BACKLOG = 2048
FIRST_REQUEST_S = 2.0
"""Time for a connection that was made just before shutdown to send its request."""


class TimeoutProtocol(H11Protocol):
    """HTTP/1.1 that disconnects clients that are slow to send a request's head or to read a response.

    The transport's write buffer has no high-water mark, so that ``pause_writing`` is called whenever the client leaves
    data unread, and ``resume_writing`` once it has read all of it.
    """

    head_s, send_s = Limits.body_s, Limits.send_s
    _head_timer: asyncio.TimerHandle | None = None
    _send_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start waiting for the first head."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)
        self._start_head_timer()

    def data_received(self, data: bytes) -> None:
        """Keep the timer running while a head is incomplete."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_head_timer()
        elif self._head_timer is None:
            self._start_head_timer()

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


class DrainingServer(uvicorn.Server):
    """A server that answers all accepted requests before it stops listening."""

    def __init__(self, config: uvicorn.Config, service: Service, on_start: Callable[[int], None]) -> None:
        super().__init__(config)
        self.service, self.on_start = service, on_start
        self._draining: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Call ``on_start`` with the port once the server listens."""
        await super().startup(sockets)
        if self.started:
            self.on_start(self.servers[0].sockets[0].getsockname()[1])

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain at the first signal, stop at the second."""
        if self.service.is_draining:
            self.should_exit = self.force_exit = True
            return
        self._captured_signals.append(sig)
        self.service.drain()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening; connections that have not sent their first request yet get a moment to do so."""
        for listener in self.servers:
            listener.close()
        until = self._now() + FIRST_REQUEST_S
        while any(self._is_new(connection) for connection in self.server_state.connections) and self._now() < until:
            await asyncio.sleep(0.01)
        await super().shutdown(sockets)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    @staticmethod
    def _is_new(connection: Any) -> bool:
        """Whether it has not sent a request yet."""
        return getattr(connection, "cycle", None) is None

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second; returns whether to stop listening."""
        if self.service.is_draining and self._draining is None:
            self._draining = asyncio.create_task(self._drain())
        return await super().on_tick(counter)

    async def _drain(self) -> None:
        limits = self.service.limits
        await asyncio.sleep(limits.linger_s)
        await self.service.drained(limits.drain_s)
        self.should_exit = True


def check_host(host: str, keys: Keys) -> None:
    """Check that a server without keys listens on loopback only.

    Raises:
        PolytaskError: it would be reachable from other machines.
    """
    if not keys.are_set and not is_loopback(host):
        raise PolytaskError(
            f"without keys the server listens on this machine only, not on {host}. "
            "Create a key with: polytask serve --new-key infer"
        )


def make_server(
    service: Service, keys: Keys, *, with_texts: bool = False, on_start: Callable[[int], None] = lambda port: None
) -> DrainingServer:
    """A server whose ``run(sockets=[…])`` serves until it is stopped; ``on_start`` is called with the port."""
    limits = service.limits
    TimeoutProtocol.head_s, TimeoutProtocol.send_s = limits.body_s, limits.send_s
    config = uvicorn.Config(
        create_app(service, keys, with_texts=with_texts),
        http=TimeoutProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=int(limits.drain_s) + 1,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
    )
    return DrainingServer(config, service, on_start)


def serve(service: Service, keys: Keys, *, host: str, port: int, with_texts: bool = False) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Raises:
        PolytaskError: the address is in use or not available, or needs keys.
    """
    check_host(host, keys)
    configure()
    with listening(host, port) as listener:
        server = make_server(
            service, keys, with_texts=with_texts, on_start=lambda port: announce(service, keys, host, port)
        )
        try:
            server.run(sockets=[listener])
        except KeyboardInterrupt:  # uvicorn raises it again after draining
            return


def listening(host: str, port: int) -> socket.socket:
    """A socket bound to this address.

    Raises:
        PolytaskError: the address is in use or not available.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio switches Nagle's algorithm off; with it a response of two parts takes 40 ms more.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise PolytaskError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    return listener


def announce(service: Service, keys: Keys, host: str, port: int) -> None:
    """Print the server's address, and who may use it, to stderr."""
    shown = f"[{host}]" if ":" in host else host
    num_tasks = len(service.catalog.tasks())
    access = "with a key" if keys.are_set else "from this machine only, because no keys are set"
    tasks = "1 task" if num_tasks == 1 else f"{num_tasks} tasks"
    print(f"serving {tasks} on {service.backbone.name} at http://{shown}:{port}/ ({access})", file=sys.stderr)
    sys.stderr.flush()
