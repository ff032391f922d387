"""Connections: slow, vanishing, pipelining and too many clients."""

from __future__ import annotations

import json
import re
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from polytask.backbones.backbone import Backbone
from polytask.serving import run
from polytask.serving.connections import MAX_BACKLOG, OTHER_FILES, connection_limits
from tests.serving.servers import Served, clients_of, connected, eventually, raw, raw_status, request_bytes, serving


@pytest.fixture(scope="module")
def impatient(backbone: Backbone, filled: Path) -> Iterator[Served]:
    """A server with short timeouts for heads, bodies and readers."""
    with serving(backbone, filled, body_s=0.5, send_s=0.5) as served:
        yield served


def test_slow_clients_are_disconnected(backbone: Backbone, filled: Path) -> None:
    with serving(backbone, filled, body_s=0.3) as served:
        slow = ("Content-Type: application/json", "Content-Length: 100")
        assert raw_status(served, "POST /v1/classify HTTP/1.1", *slow, body=b'{"model"') == 408
        assert raw(served, "POST /v1/classify HTTP/1.1", "X-Never-Ends: a", more=True) == b""
        assert served.classify(model="mood", input="a").status_code == 200


@pytest.mark.parametrize(
    "lines",
    [
        ("GET /v1/models HTTP/1.1", "X-Long: " + "a" * 100_000),
        ("GET /" + "a" * 100_000 + " HTTP/1.1",),
        ("GET /v1/models HTTP/9.9",),
        ("G@T /v1/models HTTP/1.1",),
        ("POST /v1/classify HTTP/1.1", "Content-Length: -1"),
        ("POST /v1/classify HTTP/1.1", "Content-Length: 5", "Content-Length: 6"),
        ("POST /v1/classify HTTP/1.1", "Content-Length: 5", "Transfer-Encoding: chunked"),
        ("GET /v1/models HTTP/1.1", "Bad Header: x"),
        ("GET /v1/models HTTP/1.1", "X: a\x00b"),
    ],
    ids=lambda lines: lines[-1][:30],
)
def test_malformed_heads_cause_no_server_error(impatient: Served, lines: tuple[str, ...]) -> None:
    received = raw(impatient, *lines)
    assert not received or int(received.split(b" ")[1]) in (200, 400, 404, 408, 414, 422, 431), received[:200]
    assert impatient.get("/ready").status_code == 200


def num_requests(served: Served) -> float:
    """Requests that are finished, answered or not."""
    metrics = served.service.metrics.requests.collect()
    return sum(sample.value for metric in metrics for sample in metric.samples if sample.name.endswith("_total"))


def test_a_disconnected_client_leaves_nothing_in_the_queue(served: Served) -> None:
    host, port = served.url.removeprefix("http://").split(":")
    body = json.dumps({"model": "mood", "input": ["a film"] * 200}).encode()
    lines = ("POST /v1/classify HTTP/1.1", "Host: localhost", "Content-Type: application/json")
    head = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode()
    before = num_requests(served)
    for _ in range(10):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(head + body)
    eventually(lambda: num_requests(served) == before + 10)
    service = served.service
    eventually(lambda: service.num_in_flight == service.batcher.reserved_tokens == len(service.batcher.queue) == 0)
    assert served.classify(model="mood", input="a").status_code == 200


def test_a_client_that_does_not_read_responses_is_disconnected(impatient: Served) -> None:
    large = request_bytes({"models": ["mood", "topic", "several"], "input": ["a"] * 300})
    with connected(impatient, receive_buffer=2048) as connection:
        connection.sendall(large * 100)  # some 10 MB of responses, more than the buffers of the system hold
        port = connection.getsockname()[1]
        eventually(lambda: port in clients_of(impatient), "the connection was accepted")
        eventually(lambda: port not in clients_of(impatient), "the connection was closed")
    assert impatient.classify(model="mood", input="a").status_code == 200


def test_pipelined_requests_are_answered_in_order(impatient: Served) -> None:
    texts = ["a film", "bad", "the plot was not great"] * 5
    with connected(impatient) as connection:
        connection.sendall(b"".join(request_bytes({"model": "mood", "input": text}) for text in texts))
        received = b""
        while received.count(b'"object":"classification"') < len(texts):
            chunk = connection.recv(65536)
            assert chunk, "the server hung up"
            received += chunk
    probs = re.findall(rb'"probs":(\{[^}]*\})', received)
    alone = {text: impatient.classify(model="mood", input=text).json()["data"][0]["probs"] for text in texts[:3]}
    assert [json.loads(found) for found in probs] == [pytest.approx(alone[text], abs=1e-5) for text in texts]


def test_a_half_closed_connection_counts_as_disconnected(impatient: Served) -> None:
    with connected(impatient) as connection:
        connection.sendall(request_bytes({"model": "mood", "input": "a"}))
        connection.shutdown(socket.SHUT_WR)
        received = connection.recv(65536)
    assert not received or b" 200 " in received
    service = impatient.service
    eventually(lambda: service.num_in_flight == service.batcher.reserved_tokens == 0)


def test_idle_connections_make_room_for_new_ones(
    backbone: Backbone, filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "connection_limits", lambda: (4, 100))
    with serving(backbone, filled) as crowded:
        with connected(crowded) as busy:
            request = request_bytes({"model": "mood", "input": "a"})
            busy.sendall(request[:-1])  # a body that is not complete
            eventually(lambda: busy.getsockname()[1] in clients_of(crowded))
            idle = [connected(crowded) for _ in range(20)]
            assert crowded.classify(model="mood", input="a").status_code == 200
            eventually(lambda: len(clients_of(crowded)) <= 4)
            assert [not connection.recv(1) for connection in idle[:16]] == [True] * 16, "the oldest are closed"
            busy.sendall(request[-1:])
            assert busy.recv(65536).startswith(b"HTTP/1.1 200")
        for connection in idle:
            connection.close()


def test_the_number_of_connections_leaves_files_for_the_rest() -> None:
    most, backlog = connection_limits()
    assert most > 0
    assert 0 < backlog <= MAX_BACKLOG
    assert most + backlog + OTHER_FILES <= resource.getrlimit(resource.RLIMIT_NOFILE)[0]
