"""The process: uvicorn around the application, from the first look at the store to the last answer after SIGTERM.

On SIGTERM (or Ctrl-C) the server says that it is not ready, answers new requests with 503, finishes what it accepted,
and only then stops listening, so that no request is cut off. A second signal ends it at once.
"""

from __future__ import annotations

import asyncio
import ipaddress
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
from polytask.serving.service import Service

MOST_HEAD_BYTES = 32 << 10
KEEP_ALIVE_S = 75
BACKLOG = 2048
FRESH_S = 2.0
"""How long a connection made just before the end has to send its request."""


class PatientProtocol(H11Protocol):
    """HTTP/1.1 that closes connections whose client takes too long to send a request's head."""

    head_s = Limits.body_s
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first head."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Wait on where a head has only begun."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_waiting()
        elif self._timer is None:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._timer = self.loop.call_later(self.head_s, self._give_up)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.close()


class DrainingServer(uvicorn.Server):
    """A server that answers what it accepted before it stops listening."""

    def __init__(self, config: uvicorn.Config, service: Service, on_start: Callable[[int], None]) -> None:
        super().__init__(config)
        self.service, self.on_start = service, on_start
        self._draining: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Tell the port once the server listens."""
        await super().startup(sockets)
        if self.started:
            self.on_start(self.servers[0].sockets[0].getsockname()[1])

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain at the first signal, end at the second."""
        if self.service.is_draining:
            self.should_exit = self.force_exit = True
            return
        self._captured_signals.append(sig)
        self.service.drain()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen no more; whoever was connected just now is heard before idle connections are closed."""
        for listener in self.servers:
            listener.close()
        until = self._now() + FRESH_S
        while any(self._is_fresh(connection) for connection in self.server_state.connections) and self._now() < until:
            await asyncio.sleep(0.01)
        await super().shutdown(sockets)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    @staticmethod
    def _is_fresh(connection: Any) -> bool:
        """Whether nothing was asked on it yet."""
        return getattr(connection, "cycle", None) is None

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: whether to stop listening."""
        if self.service.is_draining and self._draining is None:
            self._draining = asyncio.create_task(self._drain())
        return await super().on_tick(counter)

    async def _drain(self) -> None:
        limits = self.service.limits
        await asyncio.sleep(limits.linger_s)
        await self.service.drained(limits.drain_s)
        self.should_exit = True


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine reach this host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_host(host: str, keys: Keys) -> None:
    """Refuse to listen to other machines without keys.

    Raises:
        PolytaskError: with what would be right.
    """
    if not keys.are_set and not is_loopback(host):
        raise PolytaskError(
            f"without keys the server listens to this machine only, not on {host}. "
            "Make a key with: polytask serve --new-key infer"
        )


def make_server(
    service: Service, keys: Keys, *, with_texts: bool = False, on_start: Callable[[int], None] = lambda port: None
) -> DrainingServer:
    """A server whose ``run(sockets=[…])`` serves until it is told to end; ``on_start`` is told the port."""
    limits = service.limits
    PatientProtocol.head_s = limits.body_s
    config = uvicorn.Config(
        create_app(service, keys, with_texts=with_texts),
        http=PatientProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=int(limits.drain_s) + 1,
        h11_max_incomplete_event_size=MOST_HEAD_BYTES,
    )
    return DrainingServer(config, service, on_start)


def serve(service: Service, keys: Keys, *, host: str, port: int, with_texts: bool = False) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Raises:
        PolytaskError: the address cannot be listened on, or not without keys.
    """
    check_host(host, keys)
    configure()
    with listening(host, port) as listener:
        server = make_server(
            service, keys, with_texts=with_texts, on_start=lambda port: announce(service, keys, host, port)
        )
        try:
            server.run(sockets=[listener])
        except KeyboardInterrupt:  # raised again by uvicorn after it has drained
            return


def listening(host: str, port: int) -> socket.socket:
    """A socket bound to this address.

    Raises:
        PolytaskError: it cannot be.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise PolytaskError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    return listener


def announce(service: Service, keys: Keys, host: str, port: int) -> None:
    """Say on stderr, for a person, where the server is and who may ask it."""
    shown = f"[{host}]" if ":" in host else host
    tasks = service.catalog.tasks()
    who = "with a key" if keys.are_set else "programs of this machine only, because no keys are set"
    print(f"serving {len(tasks)} tasks on {service.backbone.name} at http://{shown}:{port}/ ({who})", file=sys.stderr)
    sys.stderr.flush()
