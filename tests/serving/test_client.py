"""The clients give the answers of the library, and retry as the server asks."""

from __future__ import annotations

import asyncio
import csv
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from polytask.backbones.backbone import Backbone
from polytask.errors import PolytaskError
from polytask.inference.predict import MultiTask
from polytask.inference.prediction import Prediction
from polytask.serving import client as client_module
from polytask.serving.auth import Keys
from polytask.serving.client import AsyncClient, Client, ServerError
from tests.cli.test_cli import polytask, refused, succeeded
from tests.serving.servers import Served, serving
from tests.serving.stores import SERVED, TEXTS

CONTEXT = "the team won the match at five and the actor was great"


def near(one: Prediction, other: Prediction) -> bool:
    same = (one.task, one.label, one.labels, one.answer, one.start, one.end) == (
        other.task,
        other.label,
        other.labels,
        other.answer,
        other.start,
        other.end,
    )
    pairs = [(one.score or 0.0, other.score or 0.0), *zip((one.probs or {}).values(), (other.probs or {}).values())]
    return same and all(a == pytest.approx(b, abs=1e-5) for a, b in pairs)


@pytest.mark.parametrize("task", SERVED)
def test_the_client_gives_the_predictions_of_the_library(served: Served, library: MultiTask, task: str) -> None:
    texts: list[Any] = [(text, CONTEXT) for text in TEXTS[:4]] if task == "qa" else list(TEXTS)
    with Client(served.url) as client:
        given = client.predict(texts, task)
    assert all(map(near, given, library.predict(texts, task)))


def test_a_task_for_each_text_and_several_tasks_for_one_text(served: Served, library: MultiTask) -> None:
    tasks = ["mood", "stars", "mood", "own", "several", "topic"]
    expected = library.predict(TEXTS[:6], tasks)

    async def ask() -> tuple[list[Prediction], dict[str, Prediction], list[Any]]:
        async with AsyncClient(served.url) as client:
            texts = client.predict(TEXTS[:6], tasks)
            return await asyncio.gather(texts, client.predict_all("a film", tasks), client.models())

    given, of_one, models = asyncio.run(ask())
    assert all(map(near, given, expected))
    assert list(of_one) == ["mood", "stars", "own", "several", "topic"]
    assert len(models) == len(SERVED)
    with Client(served.url) as client:
        assert all(map(near, client.predict(TEXTS[:6], tasks), expected))
        assert near(client.predict_all("a film", ["mood", "stars"])["mood"], of_one["mood"])
        assert client.predict(["", "a film"], "mood", on_error="null")[0].error == "the text is empty"


def test_error_responses_raise_server_errors_with_the_message(served: Served) -> None:
    with Client(served.url) as client:
        with pytest.raises(ServerError, match=r"no adapter called 'moood'\. Did you mean 'mood'\?") as caught:
            client.predict(["a"], "moood")
        assert (caught.value.status, caught.value.code) == (404, "not_found")
        assert caught.value.request_id
        with pytest.raises(PolytaskError, match="2 texts and 1 tasks"):
            client.predict(["a", "b"], ["mood"])


class Busy(BaseHTTPRequestHandler):
    """Answers with the next status and Retry-After in ``plan``."""

    plan: list[tuple[int, str | None]]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        status, retry_after = self.plan.pop(0)
        if status == 0:  # hang up
            self.close_connection = True
            return
        body = json.dumps({"data": [{"index": 0, "task": "mood", "label": "good", "num_classes": 2}]}).encode()
        self.send_response(status)
        if retry_after is not None:
            self.send_header("Retry-After", retry_after)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def busy() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Busy)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Records the waits of clients instead of waiting."""
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(client_module, "time", SimpleNamespace(sleep=waited.append))
    monkeypatch.setattr(
        client_module, "asyncio", SimpleNamespace(sleep=sleep, gather=asyncio.gather, Semaphore=asyncio.Semaphore)
    )
    return waited


def test_clients_wait_as_long_as_retry_after_says(busy: str, waits: list[float]) -> None:
    Busy.plan = [(429, "7"), (503, "3"), (200, None)]
    with Client(busy) as client:
        assert client.predict(["a"], "mood")[0].label == "good"
    assert waits == [7.0, 3.0]
    Busy.plan = [(429, "2"), (200, None)]

    async def ask() -> None:
        async with AsyncClient(busy) as client:
            assert (await client.predict(["a"], "mood"))[0].label == "good"

    asyncio.run(ask())
    assert waits == [7.0, 3.0, 2.0]


def test_clients_retry_broken_connections_and_give_up_after_the_last_retry(busy: str, waits: list[float]) -> None:
    Busy.plan = [(0, None), (200, None)]
    with Client(busy) as client:
        assert client.predict(["a"], "mood")[0].label == "good"
    Busy.plan = [(429, "100000")] * 3
    with Client(busy, retries=2) as client, pytest.raises(ServerError) as caught:
        client.predict(["a"], "mood")
    assert caught.value.status == 429
    assert max(waits) <= client_module.MAX_WAIT_S
    Busy.plan = [(500, None)]
    with Client(busy) as client, pytest.raises(ServerError):
        client.predict(["a"], "mood")
    assert Busy.plan == []
    with Client("http://127.0.0.1:9", retries=1) as client, pytest.raises(ServerError, match="cannot be reached"):
        client.predict(["a"], "mood")


def test_clients_refuse_one_string_and_an_address_without_http(served: Served) -> None:
    with Client(served.url) as client, pytest.raises(PolytaskError, match="expected a list of texts"):
        client.predict("good", "mood")
    with pytest.raises(PolytaskError, match="starts with http://"):
        Client("localhost:8000")


def test_predict_by_url_says_where_the_key_is_read_from(
    backbone: Backbone, filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(backbone, filled, keys=Keys.from_lines(["infer a-key-of-mine-here"], "", allow_plain=True)) as guarded:
        asked = ("predict", "--url", guarded.url, "--task", "mood", "good film")
        for key, problem in (("", "a key is required"), ("another-key", "the key is unknown")):
            monkeypatch.setenv("POLYTASK_KEY", key)
            message = refused(*asked)
            assert problem in message
            assert "POLYTASK_KEY" in message
        monkeypatch.setenv("POLYTASK_KEY", "a-key-of-mine-here")
        succeeded(*asked)


def test_predict_by_url(served: Served, library: MultiTask) -> None:
    asked = ("predict", "--url", served.url, "--task", "mood", "--task", "stars", "good film", "bad", "--json")
    lines = [json.loads(line) for line in succeeded(*asked).splitlines()]
    assert [line["task"] for line in lines] == ["mood", "stars"] * 2
    assert lines[0]["label"] == library.predict(["good film"], "mood")[0].label
    assert "good film" in succeeded("predict", "--url", served.url, "--task", "mood", "good film")
    pair = ("predict", "--url", served.url, "--task", "qa", "who won", "--pair", CONTEXT, "--json")
    assert json.loads(succeeded(*pair))["answer"] in CONTEXT
    assert "no adapter called" in refused("predict", "--url", served.url, "--task", "nope", "a")
    assert "Did you mean 'mood'" in refused("predict", "--url", served.url, "--task", "moood", "a")
    assert "no version" in refused("predict", "--url", served.url, "--task", "mood@9", "a")
    assert "the server" not in refused("predict", "--url", served.url, "--task", "qa", "a")


def test_predict_of_a_file_by_url_equals_predict_by_the_store(served: Served, filled: Path, tmp_path: Path) -> None:
    file, ours, theirs = tmp_path / "in.csv", tmp_path / "ours.csv", tmp_path / "theirs.csv"
    file.write_text("id,text\n" + "".join(f"{n},{TEXTS[n % len(TEXTS)]}\n" for n in range(40)) + "40,\n")
    tasks = ("--task", "mood", "--task", "several", "--task", "stars@1", "--file", file, "--on-error", "null")
    succeeded("predict", "--store", filled, "--dtype", "float32", *tasks, "--output", ours)
    succeeded("predict", "--url", served.url, *tasks, "--output", theirs)
    with ours.open() as one, theirs.open() as other:
        for row, same in zip(csv.reader(one), csv.reader(other), strict=True):
            assert len(row) == len(same)
            assert all(a == b or float(a) == pytest.approx(float(b), abs=1e-4) for a, b in zip(row, same))
    lines = succeeded("predict", "--url", served.url, *tasks, "--json").splitlines()
    assert len(lines) == 41 * 3
    assert json.loads(lines[-1])["error"] == "the text is empty"
    failed = polytask("predict", "--url", served.url, "--task", "mood", "--file", file)
    assert (failed.exit_code, "no answer" in failed.output) == (2, True)


def test_long_lists_are_sent_in_several_requests(served: Served, library: MultiTask, tmp_path: Path) -> None:
    texts = [TEXTS[n % len(TEXTS)] for n in range(2 * client_module.MAX_ROWS + 3)]
    assert [len(rows) for _, rows in client_module.chunks_of(texts, "mood")] == [256, 256, 3]
    assert [len(rows) for _, rows in client_module.chunks_of(["a" * 40_000] * 3 + [("b", "c")], "mood")] == [1, 1, 2]
    assert list(client_module.chunks_of([], "mood")) == []

    async def ask() -> list[Prediction]:
        async with AsyncClient(served.url) as client:
            return await client.predict(texts, "mood")

    expected = library.predict(texts, "mood")
    assert all(map(near, asyncio.run(ask()), expected))
    with Client(served.url) as client:
        assert all(map(near, client.predict(texts, "mood"), expected))


def test_the_client_does_not_import_torch() -> None:
    code = (
        "import sys, polytask as pt; pt.Client('http://127.0.0.1:9').close(); pt.Prediction('a'); print(*sys.modules)"
    )
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "polytask.serving.client" in modules
    assert not {"torch", "transformers", "numpy", "fastapi", "tokenizers"} & set(modules)
