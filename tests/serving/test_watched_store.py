"""Changes in the store of a running server (new, removed and invalid versions), and management by name."""

from __future__ import annotations

import errno
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from polytask.adapters.adapter import Adapter
from polytask.adapters.storage import LocalFiles
from polytask.adapters.store import Store
from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.errors import AdapterError, StoreError
from polytask.inference.predict import MultiTask
from polytask.methods import Houlsby
from polytask.serving.watched_store import WatchedStore
from tests.cli.test_cli import averaging
from tests.samples import written
from tests.serving.servers import Served, eventually, serving
from tests.serving.stores import random_adapter
from tests.tiny import save_tiny

TEXT = "the plot was not great"


@pytest.fixture
def living(backbone: Backbone, folder: Path) -> Iterator[Served]:
    """A server over a store that the test may change."""
    with serving(backbone, folder) as served:
        yield served


def version(served: Served, model: str = "mood") -> str:
    return served.classify(model=model, input=TEXT).raise_for_status().headers["x-adapter-version"]


def probs(served: Served, model: str) -> dict[str, float]:
    return dict(served.classify(model=model, input=TEXT).raise_for_status().json()["data"][0]["probs"])


def test_a_new_version_is_served_and_the_old_one_stays_available(
    living: Served, backbone: Backbone, folder: Path
) -> None:
    before = probs(living, "mood")
    Store(folder).put(random_adapter(backbone, "mood", seed=7))
    eventually(lambda: version(living) == "mood@2")
    library = MultiTask(backbone, Store(folder))
    assert probs(living, "mood") == pytest.approx(library.predict([TEXT], "mood@2")[0].probs, abs=1e-5)
    assert probs(living, "mood@1") == pytest.approx(before)
    assert version(living, "mood@latest") == version(living, "mood@best") == "mood@2"


def test_new_tasks_aliases_and_removals_are_picked_up(living: Served, backbone: Backbone, folder: Path) -> None:
    store = Store(folder)
    store.put(random_adapter(backbone, "fresh"), alias="prod")
    eventually(lambda: living.classify(model="fresh@prod", input="a").status_code == 200)
    store.put(random_adapter(backbone, "fresh", seed=2))
    store.alias("fresh@2", "prod")
    eventually(lambda: version(living, "fresh@prod") == "fresh@2")
    store.remove("fresh@1")
    eventually(lambda: living.classify(model="fresh@1", input="a").status_code == 404)
    store.unalias("fresh@prod")
    store.remove("fresh")
    eventually(lambda: living.classify(model="fresh", input="a").status_code == 404)
    eventually(lambda: "fresh@2" not in living.service.engine.adapters)


def poisons(backbone: Backbone, tmp_path: Path) -> dict[str, bytes]:
    """Invalid files for a version of ``mood``."""
    sound = random_adapter(backbone, "mood", seed=3)
    whole = sound.to_bytes()
    flipped = bytearray(whole)
    flipped[-5] ^= 4
    other = load_backbone(averaging(save_tiny(tmp_path / "other", seed=9)), device="cpu", dtype="float32")
    deep = load_backbone(averaging(save_tiny(tmp_path / "deep", num_hidden_layers=3)), device="cpu", dtype="float32")
    nan = {name: tensor.clone() for name, tensor in sound.tensors.items()}
    nan["head.bias"][0] = float("nan")
    header = sound.header.to_object()
    return {
        "truncated": whole[:-40],
        "empty": b"",
        "altered": bytes(flipped),
        "nan": written(tmp_path / "nan", header, nan).read_bytes(),
        "oversized": (1 << 62).to_bytes(8, "little") + whole[8:],
        "too long": whole + b"\0" * 64,
        "of another task": random_adapter(backbone, "topic", seed=3).to_bytes(),
        "of another backbone": random_adapter(other, "mood").to_bytes(),
        "of a deeper backbone": random_adapter(deep, "mood").to_bytes(),
        "no adapter": b"PK\x03\x04" + b"\0" * 500,
    }


@pytest.mark.parametrize("alone", [False, True], ids=["beside a sound version", "alone"])
def test_invalid_files_are_refused_and_the_old_version_is_still_served(
    living: Served, backbone: Backbone, folder: Path, tmp_path: Path, alone: bool, caplog: pytest.LogCaptureFixture
) -> None:
    before, task = probs(living, "mood"), "other" if alone else "mood"
    logging.getLogger("polytask.serving").propagate = True
    with caplog.at_level(logging.WARNING, logger="polytask.serving"):
        for number, (name, content) in enumerate(poisons(backbone, tmp_path).items(), 2):
            refused = living.metric("polytask_adapter_loads_total", result="refused")
            path = folder / task / f"{number}.safetensors"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
            eventually(lambda n=refused: living.metric("polytask_adapter_loads_total", result="refused") > n, name)
            assert version(living) == "mood@1"
            assert probs(living, "mood") == pytest.approx(before)
            response = living.classify(model=f"{task}@{number}", input="a")
            assert response.status_code == 409, name
            is_foreign = "backbone" in name and not alone
            assert response.json()["error"]["code"] == ("wrong_backbone" if is_foreign else "adapter_refused"), name
            assert str(folder) not in response.text
            if alone:
                assert living.classify(model=task, input="a").status_code == 409
    assert sum(record.getMessage() == "adapter refused" for record in caplog.records) >= 10
    refusals = living.get("/v1/models").json()["refused"]
    assert len(refusals) == 10
    assert str(tmp_path) not in json.dumps(refusals)
    assert "UNAVAILABLE" in living.post("/v2/repository/index").text
    Store(folder).put(random_adapter(backbone, "mood", seed=11))
    eventually(lambda: version(living) == f"mood@{2 if alone else 12}")


def test_links_and_invalid_names_in_a_store_are_ignored(living: Served, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (folder / "mood" / "7.safetensors").symlink_to(tmp_path / "secret")
    (folder / "linked").symlink_to(folder / "mood")
    (folder / "-odd name").mkdir()
    (folder / "file").write_text("")
    (folder / "mood" / "aliases.json").write_text("{")
    eventually(lambda: any(r["id"] == "mood@7" for r in living.get("/v1/models").json()["refused"]))
    assert version(living) == "mood@1"
    assert living.classify(model="linked", input="a").status_code == 404
    assert "secret" not in living.get("/v1/models").text


def test_a_file_being_copied_is_served_once_it_is_complete(living: Served, backbone: Backbone, folder: Path) -> None:
    whole = random_adapter(backbone, "mood", seed=5).to_bytes()
    path = folder / "mood" / "2.safetensors"
    path.write_bytes(whole[:1000])
    eventually(lambda: living.classify(model="mood@2", input="a").status_code == 409)
    path.write_bytes(whole)
    eventually(lambda: version(living) == "mood@2")


def test_a_version_damaged_after_admission_falls_back_to_the_previous_one(backbone: Backbone, folder: Path) -> None:
    Store(folder).put(random_adapter(backbone, "mood", seed=7))
    with serving(backbone, folder, memory_bytes=1) as served:  # nothing stays in memory
        assert version(served) == "mood@2"
        path = folder / "mood" / "2.safetensors"
        path.write_bytes(path.read_bytes()[:-1])
        served.classify(model="topic", input="a")  # mood@2 leaves memory
        eventually(lambda: "mood@2" not in served.service.residency)
        assert version(served) == "mood@1"
        assert served.metric("polytask_adapter_loads_total", result="refused") == 1


def test_evicted_adapters_are_loaded_on_demand(backbone: Backbone, folder: Path) -> None:
    library = MultiTask(backbone, Store(folder))
    with serving(backbone, folder, memory_bytes=20_000) as served:
        for task in ("mood", "topic", "top", "norms", "topmost", "own") * 3:
            assert probs(served, task) == pytest.approx(library.predict([TEXT], task)[0].probs, abs=1e-5)
        eventually(lambda: served.service.residency.num_bytes <= 20_000 or len(served.service.residency) == 1)


# Management


def test_unload_stops_serving_a_task_and_load_resumes(living: Served) -> None:
    assert living.post("/v1/adapters/mood/unload").json() == {"id": "mood", "status": "unloaded"}
    assert living.classify(model="mood", input="a").status_code == 404
    assert living.classify(model="mood@1", input="a").status_code == 404
    assert "mood@1" not in [model["id"] for model in living.get("/v1/models").json()["data"]]
    eventually(lambda: "mood@1" not in living.service.engine.adapters)
    assert living.post("/v2/repository/models/mood/load").json() == {"id": "mood@1", "status": "loaded"}
    assert version(living) == "mood@1"
    assert living.post("/v1/adapters/nope/load").status_code == 404
    assert living.post("/v1/adapters/..%2Fmood/load").status_code == 404
    assert living.post("/v1/adapters/.mood/load").status_code == 422


def test_unloading_a_version_falls_back_to_the_previous_one(living: Served, backbone: Backbone, folder: Path) -> None:
    Store(folder).put(random_adapter(backbone, "mood", seed=2))
    assert living.post("/v1/adapters/mood@2/load").json()["id"] == "mood@2"
    assert version(living) == "mood@2"
    living.post("/v1/adapters/mood@2/unload").raise_for_status()
    assert version(living) == "mood@1"


def test_load_resumes_versions_that_were_unloaded_one_by_one(living: Served) -> None:
    assert living.post("/v1/adapters/mood@latest/unload").json()["id"] == "mood@1"
    assert living.classify(model="mood", input="a").status_code == 404
    assert living.post("/v1/adapters/mood/load").json()["id"] == "mood@1"
    living.http.put("/v1/adapters/mood/aliases/prod", json={"version": 1}).raise_for_status()
    assert living.post("/v1/adapters/mood@prod/unload").json()["id"] == "mood@1"
    assert living.post("/v1/adapters/mood@prod/load").json()["id"] == "mood@1"
    assert version(living) == "mood@1"


def test_aliases_are_set_and_deleted_in_the_store(living: Served, backbone: Backbone, folder: Path) -> None:
    Store(folder).put(random_adapter(backbone, "mood", seed=2))
    living.post("/v1/adapters/mood/load").raise_for_status()
    put: Any = living.http.put
    assert put("/v1/adapters/mood/aliases/prod", json={"version": 1}).json()["status"] == "mood@1"
    assert version(living, "mood@prod") == "mood@1"
    assert Store(folder).entry("mood@prod").version == 1
    assert put("/v1/adapters/mood/aliases/prod", json={"version": 9}).status_code == 404
    assert put("/v1/adapters/mood/aliases/latest", json={"version": 1}).status_code == 422
    assert put("/v1/adapters/mood/aliases/7", json={"version": 1}).status_code == 422
    assert living.http.delete("/v1/adapters/mood/aliases/prod").status_code == 200
    assert living.http.delete("/v1/adapters/mood/aliases/prod").status_code == 404
    assert living.classify(model="mood@prod", input="a").status_code == 404


def test_traffic_is_split_by_shares(living: Served, backbone: Backbone, folder: Path) -> None:
    Store(folder).put(random_adapter(backbone, "mood", seed=2))
    living.post("/v1/adapters/mood/load").raise_for_status()
    put: Any = living.http.put
    put("/v1/adapters/mood/traffic", json={"shares": {"1": 1.0}}).raise_for_status()
    assert {version(living) for _ in range(5)} == {"mood@1"}
    put("/v1/adapters/mood/traffic", json={"shares": {"1": 0.5, "2": 0.5}}).raise_for_status()
    assert {version(living) for _ in range(24)} == {"mood@1", "mood@2"}
    assert version(living, "mood@2") == "mood@2"
    put("/v1/adapters/mood/traffic", json={"shares": {}}).raise_for_status()
    assert {version(living) for _ in range(5)} == {"mood@2"}
    assert put("/v1/adapters/mood/traffic", json={"shares": {"9": 1.0}}).status_code == 404
    assert put("/v1/adapters/mood/traffic", json={"shares": {"1": 0.0}}).status_code == 422


def test_a_store_that_disappears_is_served_from_memory_until_it_is_back(
    backbone: Backbone, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    away = folder.with_name("away")
    with serving(backbone, folder) as living, caplog.at_level(logging.INFO, logger="polytask.serving.service"):
        before = probs(living, "mood")
        folder.rename(away)
        response = living.post("/v1/adapters/mood/load")
        assert (response.status_code, response.json()["error"]["code"]) == (503, "unhealthy")
        assert "/" not in response.json()["error"]["message"]
        eventually(lambda: "the store cannot be read" in caplog.messages)
        assert probs(living, "mood") == pytest.approx(before)
        Store(away).put(random_adapter(backbone, "mood", seed=7))
        away.rename(folder)
        eventually(lambda: version(living) == "mood@2")
    assert (
        caplog.messages.count("the store cannot be read") == caplog.messages.count("the store can be read again") == 1
    )


def test_a_folder_that_cannot_be_read_is_served_as_before(
    backbone: Backbone, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    readable = LocalFiles.names

    def names(files: LocalFiles, *task: str) -> list[str]:
        if (files.root, *task) == (folder, "mood"):
            raise StoreError("mood cannot be read: Permission denied")  # as root, no permission is denied
        return readable(files, *task)

    with serving(backbone, folder) as living:
        monkeypatch.setattr(LocalFiles, "names", names)
        living.post("/v1/adapters/topic/load").raise_for_status()
        living.post("/v1/adapters/topic/load").raise_for_status()
        assert version(living) == "mood@1"
        assert [record.task for record in caplog.records if "cannot be read" in record.message] == ["mood"]


def test_a_refused_file_is_tried_again_when_its_permissions_change(folder: Path) -> None:
    store = WatchedStore(folder)
    before = store.file_stamp("mood", 1)
    assert store.file_stamp("mood", 1) == before
    (folder / "mood" / "1.safetensors").chmod(0o600)
    assert store.file_stamp("mood", 1) != before


def test_a_store_on_an_fsspec_file_system_is_served(backbone: Backbone) -> None:
    store = Store("memory://served")
    store.put(random_adapter(backbone, "mood", method=Houlsby(2)))
    with serving(backbone, "memory://served") as served:  # type: ignore[arg-type]
        assert version(served) == "mood@1"
        store.put(random_adapter(backbone, "mood", seed=4))
        eventually(lambda: version(served) == "mood@2")
    assert isinstance(store.get("mood"), Adapter)


def test_a_version_with_a_temporary_read_error_is_tried_again(
    living: Served, backbone: Backbone, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = WatchedStore.get

    def exhausted(store: WatchedStore, name: str) -> Any:
        error = OSError(errno.EMFILE, "Too many open files")
        raise AdapterError(str(error)) from error

    monkeypatch.setattr(WatchedStore, "get", exhausted)
    Store(folder).put(random_adapter(backbone, "mood", seed=7))
    eventually(lambda: living.classify(model="mood@2", input="a").status_code == 409)
    assert version(living) == "mood@1"
    monkeypatch.setattr(WatchedStore, "get", whole)
    eventually(lambda: version(living) == "mood@2")
