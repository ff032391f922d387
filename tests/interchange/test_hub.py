"""Adapters pushed to a hub and pulled from one, over HTTP, against a stand-in of its API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from huggingface_hub import ModelCard, constants

import polytask as pt
from polytask.adapters.store import Store
from polytask.backbones.backbone import Backbone
from polytask.cli.serve import pull_missing
from polytask.errors import AdapterError, StoreError
from polytask.interchange import hub as hub_module
from polytask.interchange.hub import load_from_hub, pull, push
from polytask.methods import Houlsby
from tests.cli.test_cli import refused, succeeded
from tests.interchange.cases import RECORDED
from tests.interchange.standin import TOKEN, Hub, standin
from tests.samples import created, same
from tests.serving.servers import serving


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with standin() as running:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", running.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Store:
    adapters = Store(tmp_path / "store")
    adapters.put(created(Houlsby(3)))
    adapters.put(created(Houlsby(2), seed=1))
    return adapters


def test_a_pulled_adapter_equals_the_pushed_one(hub: Hub, store: Store, tmp_path: Path) -> None:
    pushed = push(store, "spam@1", "owner/spam", endpoint=hub.url)
    assert hub.repositories["owner/spam"]["private"] is True
    assert set(hub.at("owner/spam", "main")[1]) == {".gitattributes", "README.md", "adapter.safetensors"}  # type: ignore[index]
    other = Store(tmp_path / "other")
    entry = pull(other, "owner/spam", endpoint=hub.url)
    assert str(entry) == "spam@1"
    assert same(other.get("spam"), store.get("spam@1"))
    assert pushed.commit == hub.repositories["owner/spam"]["main"]


def test_a_revision_keeps_its_content(hub: Hub, store: Store) -> None:
    first = push(store, "spam@1", "owner/spam", endpoint=hub.url)
    push(store, "spam@2", "owner/spam", endpoint=hub.url)
    assert same(load_from_hub(f"owner/spam@{first.commit}", endpoint=hub.url), store.get("spam@1"))
    assert same(load_from_hub("owner/spam", endpoint=hub.url), store.get("spam@2"))
    assert str(pull(store, f"hub:owner/spam@{first.commit}", task="other", endpoint=hub.url)) == "other@1"


def test_the_card_s_metadata_is_read_by_the_hub_s_own_classes(hub: Hub, store: Store) -> None:
    push(store, "spam@1", "owner/spam", endpoint=hub.url)
    assert "POST /api/validate-yaml" in hub.seen
    card = ModelCard(hub.at("owner/spam", "main")[1]["README.md"].decode())  # type: ignore[index]
    assert card.data.library_name == "polytask"
    assert card.data.pipeline_tag == "text-classification"
    assert set(card.data.tags) == {"polytask", "adapter", "houlsby"}


def test_a_dry_run_sends_nothing(hub: Hub, store: Store) -> None:
    done = push(store, "spam@1", "owner/spam", dry_run=True, endpoint=hub.url)
    assert done.commit is None
    assert done.files["adapter.safetensors"] == len(store.get("spam@1").to_bytes())
    assert hub.seen == []


def test_a_public_repository_gets_nothing_unless_asked(hub: Hub, store: Store) -> None:
    hub.repositories["owner/spam"] = {"private": False, "commits": {}, "main": ""}
    hub.commit("owner/spam", {})
    with pytest.raises(StoreError, match="exists and is public"):
        push(store, "spam@1", "owner/spam", endpoint=hub.url)
    assert "adapter.safetensors" not in hub.at("owner/spam", "main")[1]  # type: ignore[index]
    push(store, "spam@1", "owner/spam", private=False, endpoint=hub.url)
    assert "adapter.safetensors" in hub.at("owner/spam", "main")[1]  # type: ignore[index]


def test_an_error_of_the_hub_is_one_line_with_advice(hub: Hub, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AdapterError, match="There is no such repository"):
        load_from_hub("owner/nothing", endpoint=hub.url)
    with pytest.raises(AdapterError, match="use OWNER/NAME"):
        load_from_hub("a/b/c", endpoint=hub.url)
    with pytest.raises(StoreError, match="metadata"):
        push(store, "spam@1", "owner/spam", card="---\na: [\n---\n", endpoint=hub.url)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(StoreError, match="Log in with hf auth login"):
        push(store, "spam@1", "owner/spam", endpoint=hub.url)


def test_a_repository_without_an_adapter_or_with_an_altered_one_is_refused(hub: Hub, store: Store) -> None:
    push(store, "spam@1", "owner/spam", endpoint=hub.url)
    content = hub.at("owner/spam", "main")[1]["adapter.safetensors"]  # type: ignore[index]
    hub.commit("owner/spam", {"adapter.safetensors": content[:-4] + b"\x00\x00\x00\x01"})
    with pytest.raises(AdapterError):
        load_from_hub("owner/spam", endpoint=hub.url)


def test_adapters_of_other_libraries_are_imported_from_the_hub(hub: Hub) -> None:
    name = "peft/lora-bert"
    hub.repositories["owner/lora"] = {"private": False, "commits": {}, "main": ""}
    sha = hub.commit("owner/lora", {file.name: file.read_bytes() for file in (RECORDED / name).iterdir()})
    adapter = pt.import_adapter("owner/lora", "mood", backbone=RECORDED / "backbones" / "bert")
    assert adapter.header.source is not None
    assert (adapter.header.source["name"], adapter.header.source["revision"]) == ("owner/lora", sha)


def test_the_command_line_pushes_and_pulls(hub: Hub, store: Store, tmp_path: Path) -> None:
    given = ("--store", tmp_path / "store")
    assert "would be pushed to owner/spam, private" in succeeded("push", "spam@1", "owner/spam", "--dry-run", *given)
    said = json.loads(succeeded("push", "spam@1", "owner/spam", *given, "--json"))
    assert said["commit"] == hub.repositories["owner/spam"]["main"]
    assert "# spam@1" in hub.at("owner/spam", "main")[1]["README.md"].decode()  # type: ignore[index]
    assert "spam@1 is in" in succeeded("pull", "owner/spam", "--store", tmp_path / "other")
    assert "no such repository" in refused("pull", "owner/nothing", *given).lower()
    assert "no adapter called" in refused("push", "ham", "owner/spam", *given)


def test_short_cards_name_no_folder_of_this_machine(store: Store) -> None:
    assert "/" not in hub_module.short_card(store.entry("spam")).replace("OWNER/NAME", "").replace("tiny", "")


# -- hub:OWNER/NAME where a store's adapters are named ----------------------------------------------------------------


def test_a_store_reads_adapters_on_the_hub_once(hub: Hub, store: Store) -> None:
    first = store.push("spam@1", "owner/spam")
    assert same(store.get("hub:owner/spam"), store.get("spam@1"))
    entry = store.entry("hub:owner/spam")
    assert (str(entry), entry.version, entry.task) == (f"hub:owner/spam@{first.commit}", 0, "spam")
    store.push("spam@2", "owner/spam")
    requests = len(hub.seen)
    assert same(store.get("hub:owner/spam"), store.get("spam@1"))
    assert len(hub.seen) == requests
    assert same(Store("none").get("hub:owner/spam"), store.get("spam@2"))
    assert same(Store("none").get(f"hub:owner/spam@{first.commit}"), store.get("spam@1"))


def test_without_a_network_the_cache_answers(hub: Hub, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.push("spam@1", "owner/spam")
    store.push("spam@2", "owner/other")
    assert store.get("hub:owner/spam")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    requests = len(hub.seen)
    assert same(Store("none").get("hub:owner/spam"), store.get("spam@1"))
    with pytest.raises(AdapterError, match=r"owner/other is not in the cache.*HF_HUB_OFFLINE and HF_HOME"):
        store.get("hub:owner/other")
    assert len(hub.seen) == requests


def test_hub_names_are_checked_and_cannot_be_changed(hub: Hub, store: Store) -> None:
    for name in ("hub:", "hub:owner", "hub:a/b/c", "hub:owner/spam@"):
        with pytest.raises(AdapterError, match="use OWNER/NAME"):
            store.get(name)
    for change in (store.remove, store.unalias, lambda name: store.alias(name, "prod")):
        with pytest.raises(StoreError, match="is on the hub, not in the store"):
            change("hub:owner/spam")
    assert hub.seen == []


def test_a_repository_of_another_library_says_what_reads_it(hub: Hub, store: Store) -> None:
    hub.repositories["owner/lora"] = {"private": False, "commits": {}, "main": ""}
    hub.commit("owner/lora", {"adapter_config.json": b"{}"})
    with pytest.raises(AdapterError, match=r"has no adapter\.safetensors.*polytask import owner/lora"):
        store.get("hub:owner/lora")
    with pytest.raises(AdapterError, match="no such"):
        store.get("hub:owner/lora@v9")


def test_verbs_take_adapters_on_the_hub(hub: Hub, tiny_bert_folder: Path, tiny_task: pt.Task, tmp_path: Path) -> None:
    backbone = pt.load_backbone(tiny_bert_folder, device="cpu", dtype="float32")
    recipes = {
        "one": (tiny_task, pt.Recipe(pt.Houlsby(4), epochs=1)),
        "two": (tiny_task, pt.Recipe(pt.LoRA(2), epochs=1)),
    }
    own = Store(tmp_path / "own")
    for name, outcome in pt.train_many(backbone, recipes).items():
        own.put(outcome[0])  # type: ignore[index]
        own.push("mood", f"owner/{name}")
    rows = tmp_path / "rows.csv"
    rows.write_text("text,label\ngood film,good\nbad plot,bad\n")
    given = ("--store", tmp_path / "empty")
    fp32 = ("--dtype", "float32", "--device", "cpu")
    answer = json.loads(succeeded("predict", "good film", "--task", "hub:owner/one", *given, *fp32, "--json"))
    (here,) = pt.MultiTask(backbone, own).predict(["good film"], "mood@1")
    assert answer["task"] == "hub:owner/one"
    assert answer["probs"] == pytest.approx(here.probs)
    assert json.loads(succeeded("eval", rows, "--task", "hub:owner/one", *given, *fp32, "--json"))["rows"] == 2
    compared = json.loads(succeeded("compare", "hub:owner/one", "hub:owner/two@main", rows, *given, *fp32, "--json"))
    assert [compared[side]["adapter"].partition("@")[0] for side in "ab"] == ["hub:owner/one", "hub:owner/two"]
    assert "itself" in refused("compare", "hub:owner/one", "hub:owner/one@main", rows, *given)
    shown = json.loads(succeeded("show", "hub:owner/two", *given, "--json"))
    assert (shown["task"], shown["version"]) == ("mood", None)
    assert shown["origin"].startswith("hub:owner/two@")
    assert 'store.pull("owner/two")' in succeeded("show", "hub:owner/two", "--card", *given)
    succeeded("export", "hub:owner/two", tmp_path / "peft", "--to", "peft", *given)
    assert (tmp_path / "peft" / "adapter_config.json").exists()
    pull_missing(str(tmp_path / "served"), ["owner/one", "owner/one@main", "hub:owner/two"])
    assert Store(tmp_path / "served").versions("mood") == [1, 2]


def test_a_server_never_fetches_what_a_request_names(
    hub: Hub, tiny_backbone: Backbone, tiny_task: pt.Task, tmp_path: Path
) -> None:
    own = Store(tmp_path / "own")
    own.put(pt.train(tiny_backbone, tiny_task, pt.Recipe(pt.Houlsby(2), epochs=1))[0])
    own.push("mood", "owner/mood")
    requests = len(hub.seen)
    with serving(tiny_backbone, tmp_path / "own") as served:
        assert served.classify(model="mood", input="good film").status_code == 200
        name = "hub:owner/mood"
        assert served.classify(model=name, input="good film").status_code in (404, 422)
        for path in ("/v1/adapters/{}/load", "/v2/repository/models/{}/load", "/v2/models/{}/infer"):
            assert served.post(path.format(quote(name, safe="")), {}).status_code in (404, 422)
    assert len(hub.seen) == requests
