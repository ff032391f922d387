"""Servers for tests, in a thread of this process or in their own process."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

import polytask
from polytask.backbones.backbone import Backbone
from polytask.serving.auth import Keys
from polytask.serving.limits import Limits
from polytask.serving.run import DrainingServer, listening, make_server
from polytask.serving.service import Service

SOURCE = Path(polytask.__file__).parents[1]
PATIENCE_S = 120.0


class Served:
    """A running server with its service and an HTTP client."""

    def __init__(self, url: str, server: DrainingServer, key: str | None) -> None:
        self.url, self.server, self.service = url, server, server.service
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self.http = httpx2.Client(base_url=url, headers=headers, timeout=PATIENCE_S)

    def get(self, path: str, **options: Any) -> httpx2.Response:
        return self.http.get(path, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> httpx2.Response:
        return self.http.post(path, json=body, **options)

    def classify(self, **body: Any) -> httpx2.Response:
        return self.post("/v1/classify", body)

    def metric(self, name: str, **labels: str) -> float:
        """The value of a metric; 0 if it does not exist."""
        value = self.service.metrics.registry.get_sample_value(name, labels)
        return 0.0 if value is None else value


@contextmanager
def serving(
    backbone: Backbone,
    folder: Path,
    keys: Keys | None = None,
    key: str | None = None,
    with_texts: bool = False,
    **limits: Any,
) -> Iterator[Served]:
    """A server in a thread, on a free port."""
    quick = {"poll_s": 0.05, "linger_s": 0.0, "drain_s": 30.0}
    service = Service(backbone, str(folder), Limits(**{**quick, **limits}))
    started, ports = threading.Event(), []

    def on_start(port: int) -> None:
        ports.append(port)
        started.set()

    listener = listening("127.0.0.1", 0)
    server = make_server(service, keys or Keys(), with_texts=with_texts, on_start=on_start)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        assert started.wait(PATIENCE_S)
        served = Served(f"http://127.0.0.1:{ports[0]}", server, key)
        with served.http:
            yield served
    finally:
        server.should_exit = True
        thread.join()


def raw(served: Served, *lines: str, body: bytes = b"", more: bool = False) -> bytes:
    """The bytes that the server sends back."""
    host, port = served.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        head = "\r\n".join([lines[0], "Host: localhost", "Connection: close", *lines[1:]])
        connection.sendall((head if more else head + "\r\n\r\n").encode("latin-1") + body)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    return received


def raw_status(served: Served, *lines: str, body: bytes = b"") -> int:
    return int(raw(served, *lines, body=body).split(b" ")[1])


def connected(served: Served, receive_buffer: int | None = None) -> socket.socket:
    host, port = served.url.removeprefix("http://").split(":")
    connection = socket.socket()
    connection.settimeout(60)
    if receive_buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.connect((host, int(port)))
    return connection


def request_bytes(body: object) -> bytes:
    content = json.dumps(body).encode()
    lines = ("POST /v1/classify HTTP/1.1", "Host: localhost", "Content-Type: application/json")
    return "\r\n".join([*lines, f"Content-Length: {len(content)}", "", ""]).encode() + content


def clients_of(served: Served) -> set[int]:
    """The ports of the clients that are connected to the server."""
    return {connection.client[1] for connection in list(served.server.server_state.connections)}


class Process:
    """``polytask serve`` in its own process."""

    def __init__(self, store: Path, log: Path, *options: str, **environment: str) -> None:
        command = [sys.executable, "-c", "from polytask.cli import main; main()", "serve", "--store", str(store)]
        paths = os.pathsep.join([str(SOURCE), *filter(None, [os.environ.get("PYTHONPATH")])])
        where = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **environment}
        self.log = log
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                [*command, *(() if "--port" in options else ("--port", "0")), "--dtype", "float32", *options],
                env=where,
                stderr=stream,
                stdout=subprocess.DEVNULL,
            )
        self.url = self._url()

    def _url(self) -> str:
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            found = re.search(r"at (http://\S+)/\s", self.log.read_text())
            if found:
                return found[1]
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)
        raise AssertionError(f"no server within {PATIENCE_S} s: {self.log.read_text()}")

    def terminate(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait(PATIENCE_S)

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()


def eventually(check: Any, what: str = "") -> Any:
    """Wait until ``check`` returns something true, and return it."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        if found := check():
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {PATIENCE_S} s: {what}")
