"""Residency: loading and eviction of adapters within a memory budget."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from polytask.adapters.adapter import Adapter
from polytask.adapters.store import Store
from polytask.backbones.backbone import Backbone
from polytask.errors import AdapterError
from polytask.inference.predict import MultiTask
from polytask.methods import IA3
from polytask.serving.engine import DEFAULT_OPTIONS, Engine
from polytask.serving.residency import Residency
from polytask.serving.watched_store import WatchedStore
from tests.serving.stores import TEXTS, random_adapter

NAMES = [f"t{n}@1" for n in range(6)]


class Counting(Store):
    reads: list[str]

    def get(self, name: str) -> Adapter:
        self.reads.append(name)
        return super().get(name)


@pytest.fixture
def six(backbone: Backbone, tmp_path: Path) -> Counting:
    store = Counting(tmp_path / "six")
    store.reads = []
    for n in range(6):
        store.put(random_adapter(backbone, f"t{n}", seed=n))
    return store


def residency_of(backbone: Backbone, store: Store, num_adapters: float) -> Residency:
    engine = Engine(backbone, store, batch_tokens=512)
    engine.load("t0@1")
    size = engine.num_bytes("t0@1")
    engine.unload("t0@1")
    store.reads.clear()  # type: ignore[attr-defined]
    return Residency(engine, int(size * num_adapters))


def test_the_least_recently_used_adapter_is_evicted_and_reloaded_on_demand(backbone: Backbone, six: Counting) -> None:
    residency = residency_of(backbone, six, 3)
    for name in (*NAMES[:3], NAMES[0], NAMES[3]):
        asyncio.run(residency.hold(name))
        residency.release(name)
    assert residency.names() == ["t2@1", "t0@1", "t3@1"]
    assert set(residency.engine.adapters) == set(residency.names())
    assert residency.num_bytes <= residency.memory_bytes
    asyncio.run(residency.hold("t1@1"))
    assert six.reads.count("t1@1") == 2
    assert residency.engine.adapters.attached.names == set(residency.names())


def test_adapters_in_use_are_evicted_only_after_release(backbone: Backbone, six: Counting) -> None:
    residency = residency_of(backbone, six, 2)
    for name in NAMES[:4]:
        asyncio.run(residency.hold(name))
    assert len(residency) == 4
    residency.drop(NAMES[3])
    residency.thread.submit(lambda: None).result()
    assert NAMES[3] in residency
    for name in NAMES[:4]:
        residency.release(name)
    residency.thread.submit(lambda: None).result()
    assert NAMES[3] not in residency
    assert residency.names() == NAMES[1:3] or residency.num_bytes <= residency.memory_bytes
    assert set(residency.engine.adapters) == set(residency.names())


def test_concurrent_requests_share_one_load(backbone: Backbone, six: Counting) -> None:
    residency = residency_of(backbone, six, 6)

    async def ask() -> None:
        await asyncio.gather(*(residency.hold(name) for name in NAMES for _ in range(20)))

    asyncio.run(ask())
    assert sorted(six.reads) == NAMES


def test_a_failed_load_fails_for_all_waiters_and_can_be_repeated(backbone: Backbone, six: Counting) -> None:
    residency = residency_of(backbone, six, 6)
    told: list[tuple[str, bool]] = []
    residency.on_load = lambda name, error: told.append((name, error is None))
    path = Path(six.entry("t1").path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])

    async def ask() -> list[object]:
        return await asyncio.gather(*(residency.hold("t1@1") for _ in range(5)), return_exceptions=True)

    assert all(isinstance(error, AdapterError) for error in asyncio.run(ask()))
    path.write_bytes(whole)
    assert asyncio.run(ask()) == [None] * 5
    assert told == [("t1@1", False), ("t1@1", True)]


def test_a_version_overwritten_in_place_is_refused(backbone: Backbone, tmp_path: Path) -> None:
    store = WatchedStore(tmp_path / "store")
    entry = store.put(random_adapter(backbone, "mood"))
    store.digests["mood@1"] = entry.digest
    Path(entry.path).unlink()
    random_adapter(backbone, "mood", seed=5).save(entry.path)
    with pytest.raises(AdapterError, match=r"mood@1 was overwritten in place"):
        store.get("mood@1")


def test_a_thousand_adapters_are_served_within_a_budget_for_a_hundred(backbone: Backbone, tmp_path: Path) -> None:
    store = Counting(tmp_path / "thousand")
    store.reads = []
    made = {n: random_adapter(backbone, f"t{n}", method=IA3(), seed=n) for n in (0, 1, 2)}
    for n in range(1000):  # as ``put`` would, without its locks and syncs
        (tmp_path / "thousand" / f"t{n}").mkdir(parents=True)
        (tmp_path / "thousand" / f"t{n}" / "1.safetensors").write_bytes(made[n % 3].renamed(f"t{n}").to_bytes())
    residency = residency_of(backbone, store, 100)
    engine = residency.engine
    library = MultiTask(backbone, Store(tmp_path / "thousand"))
    expected = [library.predict([TEXTS[0]], f"t{n}")[0].probs for n in (0, 1, 2)]

    async def use_all() -> None:
        for n in [*range(1000), *range(0, 1000, 97)]:
            await residency.hold(f"t{n}@1")
            if n % 37 == 0:
                (rows,) = engine.tokenize([TEXTS[0]], [[f"t{n}@1"]], [DEFAULT_OPTIONS])
                (answer,) = engine.answer(rows)
                assert answer.probs == pytest.approx(expected[n % 3], abs=1e-5)  # type: ignore[union-attr]
            residency.release(f"t{n}@1")

    asyncio.run(use_all())
    assert len(residency) <= 100
    assert residency.num_bytes <= residency.memory_bytes
    assert len(engine.adapters.attached.names) == len(residency)
    assert len(engine.adapters) == len(residency), "nothing is kept of an adapter that was unloaded"
