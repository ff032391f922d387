"""Load: a store in a storm of changes, twice the capacity, SIGTERM and kill -9 in the middle of everything."""

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


def test_every_answer_in_a_storm_is_the_librarys_for_the_version_that_its_header_names(
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
                for _ in range(40):
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
        assert statuses[200] > 100
        eventually(lambda: served.service.num_in_flight == 0)
    of_version = {name: MultiTask(backbone, _Fixed(made)) for name, made in kept.items()}  # type: ignore[arg-type]
    assert len({version for _, versions, _ in seen for version in versions.split(",")}) > len(TASKS) + 2
    for texts, versions, items in seen:
        version_of = {name.partition("@")[0]: name for name in versions.split(",")}
        assert len(items) == len(texts) * len(version_of)
        for item in items:
            (prediction,) = of_version[version_of[item["task"]]].predict([texts[item["index"]]], item["task"])
            assert same(item, prediction), (texts, item, versions)


class _Fixed:
    """A store with one adapter, whatever is asked."""

    def __init__(self, adapter: Any) -> None:
        self.adapter = adapter

    def entry(self, name: str) -> Any:
        from types import SimpleNamespace

        return SimpleNamespace(task=name.partition("@")[0], version=1)

    def get(self, name: str) -> Any:
        return self.adapter


class Slow:
    """Makes an engine slow, so that a little load is much."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.answer = seconds, Engine.answer

    def __call__(self, engine: Engine, rows: Any) -> Any:
        time.sleep(self.seconds)
        return self.answer(engine, rows)


@pytest.fixture
def slow_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(0.05)
    monkeypatch.setattr(Engine, "answer", lambda engine, rows: slow(engine, rows))


@pytest.mark.usefixtures("slow_engine")
def test_beyond_the_capacity_the_rest_is_429_and_nothing_is_lost_or_swapped(
    backbone: Backbone, filled: Path, library: MultiTask
) -> None:
    expected = {(text, task): library.predict([text], task)[0] for text in TEXTS for task in ("mood", "stars")}

    async def flood(url: str) -> list[tuple[str, str, httpx2.Response]]:
        limits = httpx2.Limits(max_connections=None)
        async with httpx2.AsyncClient(base_url=url, timeout=120, limits=limits) as http:

            async def ask(number: int) -> tuple[str, str, httpx2.Response]:
                await asyncio.sleep(number * 0.002)  # open loop: 500 a second, whatever comes back
                text, task = TEXTS[number % len(TEXTS)], ("mood", "stars")[number % 2]
                own = {"x-request-id": str(number)}
                response = await http.post("/v1/classify", json={"model": task, "input": text}, headers=own)
                assert response.headers["x-request-id"] == str(number)
                return text, task, response

            return await asyncio.gather(*map(ask, range(600)))

    with serving(backbone, filled, batch_tokens=40, queue_tokens=200) as served:
        answers = asyncio.run(flood(served.url))
        assert served.service.batcher.reserved_tokens == 0
        assert served.metric("polytask_rejected_total", reason="overloaded") > 0
    statuses = Counter(response.status_code for *_, response in answers)
    assert set(statuses) == {200, 429}, statuses
    for text, task, response in answers:
        if response.status_code == 200:
            (item,) = response.json()["data"]
            assert same(item, expected[text, task])
        else:
            assert int(response.headers["retry-after"]) >= 1
            assert response.json()["error"]["retryable"]
    waits = [float(r.headers["x-queue-time"]) / 1000 for *_, r in answers if r.status_code == 200]
    assert max(waits) < 200 / 40 * 0.05 * 20, "no accepted request waited for more than its queue"


@pytest.mark.usefixtures("slow_engine")
def test_a_deadline_that_passes_is_504(backbone: Backbone, filled: Path) -> None:
    with serving(backbone, filled, batch_tokens=8) as served:
        response = served.classify(model="mood", input=["good film"] * 20, timeout_s=0.1)
        assert response.status_code == 504
        assert response.json()["error"]["code"] == "deadline"
        assert served.classify(model="mood", input="good film").status_code == 200
        eventually(lambda: not served.service.batcher.queue)


def test_an_engine_that_fails_on_one_text_fails_that_request_alone(
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
    """Ask again and again, on new connections, until told to stop."""
    while not stop.is_set():
        try:
            body = {"model": "mood", "input": ["a film", "bad"] * 20}
            response = httpx2.post(f"{url}/v1/classify", json=body, timeout=60)
            results.append((response.status_code, len(response.json().get("data", []))))
        except httpx2.ConnectError:
            results.append(("refused", 0))  # it listens no more
        except httpx2.TransportError as error:
            results.append((repr(error), 0))


def test_sigterm_under_load_answers_every_request_that_was_accepted(filled: Path, tmp_path: Path) -> None:
    with Process(filled, tmp_path / "log") as process:
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
    assert code in (0, -signal.SIGTERM)
    statuses = Counter(status for status, _ in results)
    assert set(statuses) <= {200, 503, "refused"}, statuses
    assert statuses[503] > 0
    assert all(count == 40 for status, count in results if status == 200)


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


def test_kill_9_of_a_server_that_loads_and_of_a_program_that_puts_leaves_a_store_that_serves(
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
        eventually(lambda: asked_version(process) > first)  # it has loaded what was put while it runs
        process.kill()
        putting.kill()
        numbers = [int(line) for line in putting.stdout.read().split()]
    store = Store(folder)
    assert store.verify(backbone) == []
    assert set(store.versions("mood")) >= {1, first, *numbers}, "every version that was acknowledged is there"
    with Process(folder, tmp_path / "last") as process:
        assert asked_version(process) == max(store.versions("mood"))
        assert process.terminate() in (0, -signal.SIGTERM)


def asked_version(process: Process) -> int:
    """The version of ``mood`` that answers."""
    response = httpx2.post(f"{process.url}/v1/classify", json={"model": "mood", "input": "a film"}, timeout=60)
    return int(response.raise_for_status().headers["x-adapter-version"].partition("@")[2])


def test_the_log_has_a_line_a_request_and_no_texts(filled: Path, tmp_path: Path) -> None:
    with Process(filled, tmp_path / "log") as process:
        body = {"model": "mood", "input": "a secret film"}
        httpx2.post(f"{process.url}/v1/classify", json=body, headers={"x-request-id": "mine"}, timeout=60)
        process.terminate()
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines() if line.startswith("{")]
    (line,) = [line for line in lines if line.get("request_id") == "mine"]
    assert (line["route"], line["status"], line["rows"], line["adapters"]) == ("/v1/classify", 200, 1, ["mood"])
    assert "a secret film" not in (tmp_path / "log").read_text()


def test_texts_are_logged_where_that_is_asked_for(
    backbone: Backbone, filled: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="polytask.serving"), serving(backbone, filled, with_texts=True) as served:
        served.classify(model="mood", input="a secret film")
        eventually(lambda: [r for r in caplog.records if getattr(r, "texts", None) == ["a secret film"]])


def test_what_serve_cannot_do_is_one_line(filled: Path, tmp_path: Path, served: Served) -> None:
    from tests.cli.test_cli import polytask, refused

    assert "without keys" in refused("serve", "--store", filled, "--host", "0.0.0.0")
    assert "no adapter in" in refused("serve", "--store", tmp_path / "none")
    assert "cannot be read" in refused("serve", "--store", filled, "--keys", tmp_path / "none")
    port = served.url.rpartition(":")[2]
    assert "cannot listen" in refused("serve", "--store", filled, "--port", port, "--dtype", "float32")
    key = polytask("serve", "--new-key", "infer,metrics")
    assert key.exit_code == 0
    assert "infer,metrics " in key.stdout
    assert "expected SCOPES SHA256" in refused("serve", "--new-key", "root")
