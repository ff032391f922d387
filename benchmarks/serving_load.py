"""A load generator for HTTP: closed loop (a fixed number of clients) and open loop (a fixed rate of requests).

Written here because ``oha``, ``vegeta`` and ``locust`` are not packaged for Python or cost more of two cores than the
server. In an open loop latency counts from the moment when a request was due, not from when it could be sent.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Load:
    """The responses. Latencies are in seconds, of requests that were answered with 200."""

    seconds: float = 0.0
    rows: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)

    def quantile(self, share: float) -> float:
        """A latency that this share of the answers stayed below."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")

    def to_json(self) -> dict[str, Any]:
        """For a file of results."""
        return {
            "rows_per_s": round(self.rows / self.seconds, 1),
            "requests_per_s": round(len(self.latencies) / self.seconds, 1),
            "p50_ms": round(1000 * self.quantile(0.5), 1),
            "p99_ms": round(1000 * self.quantile(0.99), 1),
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
        }


class Connection:
    """One persistent HTTP/1.1 connection."""

    def __init__(self, url: str) -> None:
        self.host, _, port = url.removeprefix("http://").rstrip("/").partition(":")
        self.port = int(port)
        self.reader: asyncio.StreamReader | None = None

    async def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Status and body of a response."""
        if self.reader is None:
            self.reader, self.writer = await asyncio.open_connection(self.host, self.port)
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        self.writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = await self.reader.readuntil(b"\r\n\r\n")
        lines = answer.decode("latin-1").lower().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
        content = await self.reader.readexactly(int(headers.get("content-length", 0)))
        if headers.get("connection") == "close":
            self.writer.close()
            self.reader = None
        return int(lines[0].split()[1]), content


Request = tuple[str, bytes, int]
"""Path, body, and how many rows it asks."""


def request(path: str, body: Any, rows: int) -> Request:
    """Send one request and return the response."""
    return path, json.dumps(body).encode(), rows


async def _timed(connection: Connection, asked: Request, load: Load, since: float) -> None:
    path, body, rows = asked
    status, _ = await connection.post(path, body)
    load.statuses[status] += 1
    if status == 200:
        load.latencies.append(time.perf_counter() - since)
        load.rows += rows


def closed_loop(url: str, requests: Sequence[Request], clients: int, seconds: float) -> Load:
    """A fixed number of clients, each sending its next request when it has its answer."""

    async def client(number: int, load: Load, until: float) -> None:
        connection, at = Connection(url), number
        while time.perf_counter() < until:
            await _timed(connection, requests[at % len(requests)], load, time.perf_counter())
            at += clients

    async def run() -> Load:
        load, start = Load(), time.perf_counter()
        await asyncio.gather(*(client(number, load, start + seconds) for number in range(clients)))
        load.seconds = time.perf_counter() - start
        return load

    return asyncio.run(run())


def open_loop(url: str, requests: Sequence[Request], rate: float, seconds: float) -> Load:
    """A fixed rate of requests, at times that do not depend on the answers."""

    async def run() -> Load:
        load, start, free = Load(), time.perf_counter(), list[Connection]()

        async def one(number: int) -> None:
            due = start + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            connection = free.pop() if free else Connection(url)
            await _timed(connection, requests[number % len(requests)], load, due)
            free.append(connection)

        await asyncio.gather(*(one(number) for number in range(int(rate * seconds))))
        load.seconds = time.perf_counter() - start
        return load

    return asyncio.run(run())


def at_once(url: str, requests: Sequence[Request], times: int) -> Load:
    """Send all requests together and wait for all, repeatedly; a latency is that of the last answer."""

    async def run() -> Load:
        load, start = Load(), time.perf_counter()
        connections = [Connection(url) for _ in requests]
        for _ in range(times):
            own, since = Load(), time.perf_counter()
            await asyncio.gather(*(_timed(c, r, own, since) for c, r in zip(connections, requests)))
            load.statuses += own.statuses
            load.latencies.append(time.perf_counter() - since)
            load.rows += own.rows
        load.seconds = time.perf_counter() - start
        return load

    return asyncio.run(run())
