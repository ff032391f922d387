"""A load generator for HTTP: closed loop (a fixed number of clients) and open loop (a fixed rate of requests).

Written here because ``oha``, ``vegeta`` and ``locust`` are not packaged for Python or cost more of two cores than the
server. In an open loop latency counts from the moment when a request was due, not from when it could be sent.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

FAILED = 0
"""In place of a status: the connection failed."""


class Request(NamedTuple):
    """A POST request for ``rows`` rows (texts times tasks)."""

    url: str
    path: str
    body: bytes
    rows: int


def request(url: str, path: str, body: Any, rows: int) -> Request:
    """A request with a JSON body."""
    return Request(url, path, json.dumps(body).encode(), rows)


@dataclass
class Load:
    """The responses. Latencies are in seconds, of requests that were answered with 200.

    ``cpu_s`` is the processor time of the load generator.
    """

    seconds: float = 0.0
    cpu_s: float = 0.0
    rows: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)

    def quantile(self, share: float) -> float:
        """The latency that this share of the answers stayed below."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")

    @property
    def requests_per_s(self) -> float:
        """Answered requests per second."""
        return len(self.latencies) / self.seconds

    def to_row(self) -> dict[str, Any]:
        """The columns of a CSV file."""
        other = sum(count for status, count in self.statuses.items() if status not in (200, 429))
        return {
            "rows_per_s": round(self.rows / self.seconds, 1),
            "requests_per_s": round(self.requests_per_s, 1),
            "p50_ms": round(1000 * self.quantile(0.5), 1),
            "p99_ms": round(1000 * self.quantile(0.99), 1),
            "answered": self.statuses[200],
            "status_429": self.statuses[429],
            "failed": other,
        }


class Connections:
    """Persistent HTTP/1.1 connections of one client, one for each server."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[asyncio.StreamReader, asyncio.StreamWriter]] = {}

    async def send(self, request: Request, load: Load, since: float) -> None:
        """Send a request, wait for the response, and add it to ``load``."""
        try:
            status = await self._post(request)
        except (OSError, EOFError):
            self._open.pop(request.url, None)
            status = FAILED
        load.statuses[status] += 1
        if status == 200:
            load.latencies.append(time.perf_counter() - since)
            load.rows += request.rows

    async def _post(self, request: Request) -> int:
        if request.url not in self._open:
            host, _, port = request.url.removeprefix("http://").rstrip("/").partition(":")
            self._open[request.url] = await asyncio.open_connection(host, int(port))
        reader, writer = self._open[request.url]
        head = f"POST {request.path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(request.body)}\r\n\r\n".encode() + request.body)
        answer = await reader.readuntil(b"\r\n\r\n")
        lines = answer.decode("latin-1").lower().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
        await reader.readexactly(int(headers.get("content-length", 0)))
        if headers.get("connection") == "close":
            self.close(request.url)
        return int(lines[0].split()[1])

    def close(self, *urls: str) -> None:
        """Close the connections to these servers; to all of them without arguments."""
        for url in urls or tuple(self._open):
            self._open.pop(url)[1].close()


def closed_loop(requests: Sequence[Request], clients: int, seconds: float) -> Load:
    """A fixed number of clients, each sending its next request when it has its answer."""

    async def client(number: int, load: Load, until: float) -> None:
        connections, at = Connections(), number
        while time.perf_counter() < until:
            await connections.send(requests[at % len(requests)], load, time.perf_counter())
            at += clients
        connections.close()

    async def run(load: Load) -> None:
        until = time.perf_counter() + seconds
        await asyncio.gather(*(client(number, load, until) for number in range(clients)))

    return _timed(run)


def open_loop(requests: Sequence[Request], rate: float, seconds: float) -> Load:
    """A fixed rate of requests per second, at times that do not depend on the answers."""

    async def run(load: Load) -> None:
        start, free, made = time.perf_counter(), list[Connections](), list[Connections]()

        async def one(number: int) -> None:
            due = start + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            if not free:
                free.append(Connections())
                made.append(free[-1])
            connections = free.pop()
            await connections.send(requests[number % len(requests)], load, due)
            free.append(connections)

        await asyncio.gather(*(one(number) for number in range(max(1, int(rate * seconds)))))
        for connections in made:
            connections.close()

    return _timed(run)


def at_once(requests: Sequence[Request], times: int) -> Load:
    """Send all requests together and wait for all answers, repeatedly; a latency is that of the last answer."""

    async def run(load: Load) -> None:
        clients = [Connections() for _ in requests]
        for _ in range(times):
            own, since = Load(), time.perf_counter()
            await asyncio.gather(*(client.send(one, own, since) for client, one in zip(clients, requests)))
            load.statuses += own.statuses
            load.latencies.append(time.perf_counter() - since)
            load.rows += own.rows
        for client in clients:
            client.close()

    return _timed(run)


def _timed(run: Any) -> Load:
    async def timed() -> Load:
        load, start, cpu_start = Load(), time.perf_counter(), time.process_time()
        work: Coroutine[Any, Any, None] = run(load)
        await work
        load.seconds, load.cpu_s = time.perf_counter() - start, time.process_time() - cpu_start
        return load

    return asyncio.run(timed())
