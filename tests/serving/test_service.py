"""Limits of a request: its size in tokens, its deadline, and the health probe."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest

from polytask.adapters.store import Store
from polytask.backbones.backbone import Backbone
from polytask.serving.admission import (
    CHARACTERS_PER_TOKEN,
    CHARACTERS_TOKENIZED_PER_TOKEN,
    Query,
    estimate_tokens,
)
from polytask.serving.catalog import Catalog
from polytask.serving.engine import Engine
from polytask.serving.watched_store import WatchedStore
from tests.serving.servers import eventually, serving
from tests.serving.stores import random_adapter


def test_a_request_with_more_tokens_than_estimated_is_413(backbone: Backbone, folder: Path) -> None:
    Store(folder).put(random_adapter(backbone, "split", recipe={"max_length": 32, "long": "split"}))
    with serving(backbone, folder, queue_tokens=400) as served:
        assert served.classify(model="split", input="a film " * 40).status_code == 200
        response = served.classify(model="split", input="a " * 450)  # 450 tokens, more with the overlap of windows
        assert response.status_code == 413
        assert "tokens; the limit is 400" in response.json()["error"]["message"]
        assert served.service.batcher.reserved_tokens == 0


def test_texts_in_windows_answer_alike_together_and_alone(backbone: Backbone, folder: Path) -> None:
    Store(folder).put(random_adapter(backbone, "split", recipe={"max_length": 32, "long": "split"}))
    texts = ["a film " * 40, "bad", "the plot was not great at all " * 20]
    with serving(backbone, folder) as served:
        together = served.classify(model="split", input=texts).json()["data"]
        for text, item in zip(texts, together, strict=True):
            (alone,) = served.classify(model="split", input=text).json()["data"]
            assert item["probs"] == pytest.approx(alone["probs"], abs=1e-5)


def test_the_tokenization_of_long_texts_counts_as_work() -> None:
    short, long = Query("a film", ("mood",)), Query("a" * 1_000_000, ("mood", "topic"))
    limits = {"mood": 32, "topic": 32}
    assert estimate_tokens([short], limits) == len("a film") // CHARACTERS_PER_TOKEN + 8
    assert estimate_tokens([long], limits) == 2 * 32 + 1_000_000 // CHARACTERS_TOKENIZED_PER_TOKEN


def test_a_request_resolves_each_name_once(backbone: Backbone, filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resolved: list[str] = []
    whole = Catalog.resolve
    monkeypatch.setattr(Catalog, "resolve", lambda self, name: (resolved.append(name), whole(self, name))[1])
    with serving(backbone, filled) as served:
        served.classify(models=["mood", "topic"], input=["a film", "bad"]).raise_for_status()
    assert resolved == ["mood", "topic"], "with shares of traffic, a second draw could be another version"


def test_a_slow_load_ends_at_the_deadline(backbone: Backbone, filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    whole = WatchedStore.get

    def slow(store: WatchedStore, name: str) -> Any:
        released.wait(60)
        return whole(store, name)

    with serving(backbone, filled) as served:
        served.post("/v1/adapters/mood/unload").raise_for_status()
        eventually(lambda: "mood@1" not in served.service.residency)
        served.service.catalog.show("mood")
        monkeypatch.setattr(WatchedStore, "get", slow)
        try:
            response = served.classify(model="mood", input="a film", timeout_s=0.2)
            assert (response.status_code, response.json()["error"]["code"]) == (504, "deadline")
            assert served.classify(model="topic", input="a film").status_code == 200
        finally:
            released.set()
        assert served.classify(model="mood", input="a film").status_code == 200
        assert served.service.num_in_flight == served.service.batcher.reserved_tokens == 0


def test_concurrent_health_probes_share_a_forward_pass(
    backbone: Backbone, filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    whole = Engine.probe
    monkeypatch.setattr(Engine, "probe", lambda engine: (calls.append(1), time.sleep(0.2), whole(engine)))

    async def flood(url: str) -> set[int]:
        async with httpx2.AsyncClient(base_url=url, timeout=60) as http:
            responses = await asyncio.gather(*(http.get("/health") for _ in range(50)))
        return {response.status_code for response in responses}

    with serving(backbone, filled) as served:
        assert asyncio.run(flood(served.url)) == {200}
    assert len(calls) < 10
