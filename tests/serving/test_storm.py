"""The server under load: store changes, overload, failing texts, SIGTERM and kill -9."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from polytask.adapters.store import Store
from polytask.backbones.backbone import Backbone
from polytask.inference.predict import MultiTask
from polytask.inference.prediction import Prediction
from polytask.serving.engine import Engine
from tests.serving.servers import SOURCE, Process, Served, eventually, serving
from tests.serving.stores import SERVED, TEXTS, random_adapter

TASKS = [task for task in SERVED if task != "qa"]


def same(item: dict[str, Any], prediction: Prediction) -> bool:
    numbers = [*(item.get("probs") or {}).values(), item.get("score") or 0.0]
    expected = [*(prediction.probs or {}).values(), prediction.score or 0.0]
    return numbers == pytest.approx(expected, abs=1e-5)


def test_answers_during_store_changes_equal_the_library_for_the_version_in_the_header(
    backbone: Backbone, folder: Path
) -> None:
    store, stop = Store(folder), threading.Event()
    kept = {f"{task}@{1}": store.get(f"{task}@1") for task in TASKS}
    lock, seen = threading.Lock(), []

    def change() -> None:
        draw = random.Random(1)
        for seed in itertools.count(10):
            if stop.is_set():
                return
            task = draw.choice(("mood", "topic", "coming"))
            made = random_adapter(backbone, task, seed=seed)
            kept[str(store.put(made))] = made
            versions = store.versions(task)
            if len(versions) > 2:
                store.remove(f"{task}@{versions[0]}")
            time.sleep(0.02)

    with serving(backbone, folder, poll_s=0.02, memory_bytes=60_000) as served:
        eventually(lambda: served.get("/ready").status_code == 200)
        statuses: Counter[int] = Counter()

        def ask(number: int) -> None:
            draw = random.Random(number)
            with httpx2.Client(base_url=served.url, timeout=120) as http:
                for _ in range(20):
                    texts = [draw.choice(TEXTS) for _ in range(draw.randint(1, 4))]
                    names = draw.sample([*TASKS, "coming"], draw.randint(1, 3))
                    response = http.post("/v1/classify", json={"models": names, "input": texts})
                    with lock:
                        statuses[response.status_code] += 1
                        if response.status_code == 200:
                            seen.append((texts, response.headers["x-adapter-version"], response.json()["data"]))

        changing = threading.Thread(target=change)
        changing.start()
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(ask, range(6)))
        stop.set()
        changing.join()
        assert set(statuses) <= {200, 404}, statuses
        assert statuses[200] > 50
        eventually(lambda: served.service.num_in_flight == 0)
    of_version = {name: MultiTask(backbone, _Fixed(made)) for name, made in kept.items()}
    assert len({version for _, versions, _ in seen for version in versions.split(",")}) > len(TASKS) + 2
    expected: dict[str, dict[str, Prediction]] = {}
    for texts, versions, items in seen:
        version_of = {name.partition("@")[0]: name for name in versions.split(",")}
        assert len(items) == len(texts) * len(version_of)
        for item in items:
            name, text = version_of[item["task"]], texts[item["index"]]
            if name not in expected:
                expected[name] = dict(zip(TEXTS, of_version[name].predict(TEXTS, item["task"]), strict=True))
            assert same(item, expected[name][text]), (text, item, versions)


class _Fixed(Store):
    """A store that gives the same adapter for every name."""

    def __init__(self, adapter: Any) -> None:
        self.adapter = adapter

    def entry(self, name: str) -> Any:
        return f"{name.partition('@')[0]}@1"

    def get(self, name: str) -> Any:
        return self.adapter


@pytest.fixture
def paused(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Every batch of the engine waits until this is set."""
    go_on, answer = threading.Event(), Engine.answer

    def answer_later(engine: Engine, rows: Any) -> Any:
        go_on.wait()
        return answer(engine, rows)

    monkeypatch.setattr(Engine, "answer", answer_later)
    return go_on


def test_under_overload_requests_get_429_and_no_answer_is_lost_or_swapped(
    backbone: Backbone, filled: Path, library: MultiTask, paused: threading.Event
) -> None:
    expected = {(text, task): library.predict([text], task)[0] for text in TEXTS for task in ("mood", "stars")}
    queue_tokens, queued = 200, []

    async def flood(served: Served) -> list[tuple[str, str, httpx2.Response]]:
        limits = httpx2.Limits(max_connections=None)
        async with httpx2.AsyncClient(base_url=served.url, timeout=120, limits=limits) as http:

            async def ask(number: int) -> tuple[str, str, httpx2.Response]:
                await asyncio.sleep(number * 0.002)  # open loop: at its time, whatever was answered before
                text, task = TEXTS[number % len(TEXTS)], ("mood", "stars")[number % 2]
                own = {"x-request-id": str(number)}
                response = await http.post("/v1/classify", json={"model": task, "input": text}, headers=own)
                assert response.headers["x-request-id"] == str(number)
                queued.append(served.service.batcher.reserved_tokens)
                if response.status_code == 429:
                    paused.set()  # the queue was full
                return text, task, response

            return await asyncio.gather(*map(ask, range(200)))

    with serving(backbone, filled, batch_tokens=40, queue_tokens=queue_tokens) as served:
        answers = asyncio.run(flood(served))
        assert served.service.batcher.reserved_tokens == 0
        assert served.metric("polytask_rejected_total", reason="overloaded") > 0
    statuses = Counter(response.status_code for *_, response in answers)
    assert set(statuses) == {200, 429}, statuses
    assert max(queued) <= queue_tokens, "what accepted requests wait for is bounded"
    for text, task, response in answers:
        if response.status_code == 200:
            (item,) = response.json()["data"]
            assert same(item, expected[text, task])
        else:
            assert int(response.headers["retry-after"]) >= 1
            assert response.json()["error"]["retryable"]


def test_a_missed_deadline_is_504(backbone: Backbone, filled: Path, paused: threading.Event) -> None:
    with serving(backbone, filled, batch_tokens=8) as served:
        response = served.classify(model="mood", input=["good film"] * 20, timeout_s=0.1)
        paused.set()
        assert response.status_code == 504
        assert response.json()["error"]["code"] == "deadline"
        assert served.classify(model="mood", input="good film").status_code == 200
        eventually(lambda: not served.service.batcher.queue)


def test_a_text_that_fails_in_the_engine_fails_only_its_request(
    backbone: Backbone, filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Engine.answer

    def fails(engine: Engine, rows: Any) -> Any:
        if any(len(row.encoded.ids[0]) == 9 for row in rows):
            raise RuntimeError("this text cannot be computed")
        return whole(engine, rows)

    monkeypatch.setattr(Engine, "answer", fails)
    poisoned = "a a a a a a a"  # 9 tokens

    async def ask(url: str) -> list[int]:
        async with httpx2.AsyncClient(base_url=url, timeout=120) as http:
            bodies = [{"model": "mood", "input": poisoned if n % 5 == 0 else "a film"} for n in range(30)]
            return [r.status_code for r in await asyncio.gather(*(http.post("/v1/classify", json=b) for b in bodies))]

    with serving(backbone, filled, max_wait_s=0.05) as served:
        assert asyncio.run(ask(served.url)) == [500 if n % 5 == 0 else 200 for n in range(30)]
        mixed = {"model": "mood", "input": ["a film", poisoned, "bad"], "on_error": "null"}
        items = served.post("/v1/classify", mixed).json()["data"]
        assert ["error" in item for item in items] == [False, True, False]
        assert "cannot be computed" not in items[1]["error"]


# Signals


def loaded(url: str, stop: threading.Event, results: list[Any]) -> None:
    """Send requests on new connections until ``stop`` is set."""
    while not stop.is_set():
        try:
            body = {"model": "mood", "input": ["a film", "bad"] * 20}
            response = httpx2.post(f"{url}/v1/classify", json=body, timeout=60)
            results.append((response.status_code, len(response.json().get("data", []))))
        except httpx2.ConnectError:
            results.append(("refused", 0))  # it listens no more
        except httpx2.TransportError as error:
            results.append((repr(error), 0))


@dataclass
class Stopped:
    """What a process answered and logged before and after SIGTERM under load."""

    code: int
    results: list[Any]
    log: str


@pytest.fixture(scope="module")
def stopped(filled: Path, tmp_path_factory: pytest.TempPathFactory) -> Stopped:
    log = tmp_path_factory.mktemp("stopped") / "log"
    with Process(filled, log) as process:
        body = {"model": "mood", "input": "a secret film"}
        httpx2.post(f"{process.url}/v1/classify", json=body, headers={"x-request-id": "mine"}, timeout=60)
        stop, results = threading.Event(), []
        threads = [threading.Thread(target=loaded, args=(process.url, stop, results)) for _ in range(6)]
        for thread in threads:
            thread.start()
        eventually(lambda: sum(status == 200 for status, _ in results) > 20)
        process.process.send_signal(signal.SIGTERM)
        eventually(lambda: httpx2.get(process.url + "/ready").status_code == 503)
        code = process.process.wait(60)
        stop.set()
        for thread in threads:
            thread.join()
    return Stopped(code, results, log.read_text())


def test_after_sigterm_every_accepted_request_is_answered(stopped: Stopped) -> None:
    assert stopped.code in (0, -signal.SIGTERM)
    statuses = Counter(status for status, _ in stopped.results)
    assert set(statuses) <= {200, 503, "refused"}, statuses
    assert statuses[503] > 0
    assert all(count == 40 for status, count in stopped.results if status == 200)


def test_the_log_has_one_line_per_request_and_no_texts(stopped: Stopped) -> None:
    lines = [json.loads(line) for line in stopped.log.splitlines() if line.startswith("{")]
    (line,) = [line for line in lines if line.get("request_id") == "mine"]
    assert (line["route"], line["status"], line["rows"], line["adapters"]) == ("/v1/classify", 200, 1, ["mood"])
    answered = sum(line.get("route") == "/v1/classify" and line["status"] == 200 for line in lines)
    assert answered == 1 + sum(status == 200 for status, _ in stopped.results)
    assert "secret" not in stopped.log


PUTTING = """
import sys, time
from polytask.adapters.adapter import Adapter
from polytask.adapters.store import Store
store, adapter = Store(sys.argv[1]), Adapter.load(sys.argv[2])
while True:
    print(store.put(adapter).version, flush=True)
    time.sleep(0.05)
"""
"""A program that puts versions of an adapter until it is killed, and prints the number of each."""


def test_kill_9_of_a_server_and_of_a_writer_leaves_the_store_intact(
    backbone: Backbone, folder: Path, tmp_path: Path
) -> None:
    random_adapter(backbone, "mood", seed=5).save(tmp_path / "new.safetensors")
    command = [sys.executable, "-c", PUTTING, str(folder), str(tmp_path / "new.safetensors")]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
    with (
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as putting,
        Process(folder, tmp_path / "log", "--poll", "0.01") as process,
    ):
        assert putting.stdout is not None
        first = int(putting.stdout.readline())
        eventually(lambda: served_version(process.url) > first)  # it has loaded what was put while it runs
        process.kill()
        putting.kill()
        numbers = [int(line) for line in putting.stdout.read().split()]
    store = Store(folder)
    assert store.verify(backbone) == []
    assert set(store.versions("mood")) >= {1, first, *numbers}, "every version that was acknowledged is there"
    with serving(backbone, folder) as served:
        assert served_version(served.url) == max(store.versions("mood"))


def served_version(url: str) -> int:
    """The version of ``mood`` that answers."""
    response = httpx2.post(f"{url}/v1/classify", json={"model": "mood", "input": "a film"}, timeout=60)
    return int(response.raise_for_status().headers["x-adapter-version"].partition("@")[2])


def test_texts_are_logged_only_on_request(backbone: Backbone, filled: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="polytask.serving"), serving(backbone, filled, with_texts=True) as served:
        served.classify(model="mood", input="a secret film")
        eventually(lambda: [r for r in caplog.records if getattr(r, "texts", None) == ["a secret film"]])


def test_serve_reports_errors_in_one_line(filled: Path, tmp_path: Path, served: Served) -> None:
    from tests.cli.test_cli import polytask, refused

    assert "without keys" in refused("serve", "--store", filled, "--host", "0.0.0.0")
    assert "no adapter in" in refused("serve", "--store", tmp_path / "none")
    assert "cannot be read" in refused("serve", "--store", filled, "--keys", tmp_path / "none")
    port = served.url.rpartition(":")[2]
    assert "cannot listen" in refused("serve", "--store", filled, "--port", port, "--dtype", "float32")
    key = polytask("serve", "--new-key", "infer,metrics")
    assert key.exit_code == 0
    assert "infer,metrics " in key.stdout
    assert "no scope called 'root'" in refused("serve", "--new-key", "root")
