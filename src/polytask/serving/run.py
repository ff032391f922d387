"""Runs the application under uvicorn, with a graceful shutdown.

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

import uvicorn

from polytask.errors import PolytaskError
from polytask.serving.app import create_app
from polytask.serving.auth import Keys
from polytask.serving.connections import BoundedProtocol, connection_limits
from polytask.serving.logs import configure
from polytask.serving.middleware import is_loopback
from polytask.serving.service import Service

MAX_HEAD_BYTES = 32 << 10
KEEP_ALIVE_S = 75
FIRST_REQUEST_S = 2.0
"""Time for a connection that was made just before shutdown to send its request."""


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
    BoundedProtocol.head_s, BoundedProtocol.send_s = limits.body_s, limits.send_s
    BoundedProtocol.max_connections, backlog = connection_limits()
    config = uvicorn.Config(
        create_app(service, keys, with_texts=with_texts),
        http=BoundedProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=backlog,
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
