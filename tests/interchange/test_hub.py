"""Adapters pushed to a hub and pulled from one, over HTTP, against a stand-in of its API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import ModelCard, constants

import polytask as pt
from polytask.adapters.store import Store
from polytask.errors import AdapterError, StoreError
from polytask.interchange import hub as hub_module
from polytask.interchange.hub import pull, pulled, push
from polytask.methods import Houlsby
from tests.cli.test_cli import refused, succeeded
from tests.interchange.cases import RECORDED
from tests.interchange.standin import TOKEN, Hub, standin
from tests.samples import created, same


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


def test_what_is_pushed_is_pulled_as_it_was(hub: Hub, store: Store, tmp_path: Path) -> None:
    pushed = push(store, "spam@1", "owner/spam", endpoint=hub.url)
    assert hub.repositories["owner/spam"]["private"] is True
    assert set(hub.at("owner/spam", "main")[1]) == {".gitattributes", "README.md", "adapter.safetensors"}  # type: ignore[index]
    other = Store(tmp_path / "other")
    entry = pull(other, "owner/spam", endpoint=hub.url)
    assert str(entry) == "spam@1"
    assert same(other.get("spam"), store.get("spam@1"))
    assert pushed.commit == hub.repositories["owner/spam"]["main"]


def test_a_revision_is_what_it_was(hub: Hub, store: Store) -> None:
    first = push(store, "spam@1", "owner/spam", endpoint=hub.url)
    push(store, "spam@2", "owner/spam", endpoint=hub.url)
    assert same(pulled(f"owner/spam@{first.commit}", endpoint=hub.url), store.get("spam@1"))
    assert same(pulled("owner/spam", endpoint=hub.url), store.get("spam@2"))
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


def test_what_the_hub_refuses_is_one_line_with_advice(hub: Hub, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AdapterError, match="There is no such repository"):
        pulled("owner/nothing", endpoint=hub.url)
    with pytest.raises(AdapterError, match="use OWNER/NAME"):
        pulled("a/b/c", endpoint=hub.url)
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
        pulled("owner/spam", endpoint=hub.url)


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
