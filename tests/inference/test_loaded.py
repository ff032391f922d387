"""Adapters on a backbone: loading and unloading others changes nothing, and nothing stays behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from polytask.adapters.store import Store
from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.errors import NoSuchAdapter
from polytask.inference.loaded import LoadedAdapters
from polytask.inference.predict import MultiTask
from polytask.methods import METHODS
from tests.serving.stores import random_adapter

WORDS = ("good", "bad", "a great film", "an awful plot", "you win the prize now", "see you at five tomorrow or not")
TEXTS = [f"{one} {other}" for one in WORDS for other in WORDS]


@pytest.fixture(scope="module")
def backbone(tiny_bert_folder: Path) -> Backbone:
    return load_backbone(tiny_bert_folder, device="cpu", dtype="float32", pooling="mean")


@pytest.fixture(scope="module")
def store(backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("store"))
    for number, name in enumerate(METHODS):
        store.put(random_adapter(backbone, name, method=METHODS[name](), seed=number))
    return store


@pytest.mark.parametrize("name", METHODS)
def test_loading_and_unloading_others_does_not_change_a_bit(backbone: Backbone, store: Store, name: str) -> None:
    tasks = MultiTask(backbone, store)
    alone = tasks.predict(TEXTS, name)
    for other in METHODS:
        tasks.load(other)
    assert tasks.predict(TEXTS, name) == alone
    for other in METHODS.keys() - {name}:
        tasks.unload(other)
    assert tasks.predict(TEXTS, name) == alone


def test_an_adapter_that_is_unloaded_in_use_leaves_at_the_end_of_its_use(backbone: Backbone, store: Store) -> None:
    adapters = LoadedAdapters(backbone, store)
    with adapters.in_use(["lora", "ia3", "lora"]) as used:
        assert list(used) == ["lora", "ia3"]
        adapters.unload("lora")
        assert list(adapters) == ["ia3"]
        assert adapters.attached.names == {"lora", "ia3"}
        with adapters.in_use(["lora"]) as again:
            assert again["lora"] is used["lora"]
        assert set(adapters) == {"lora", "ia3"}
        adapters.unload("lora")
    assert adapters.attached.names == {"ia3"}
    adapters.unload("ia3")
    assert not adapters
    assert not adapters.attached.names


def test_what_is_missing_leaves_no_use_behind(backbone: Backbone, store: Store) -> None:
    adapters = LoadedAdapters(backbone, store)
    with pytest.raises(NoSuchAdapter), adapters.in_use(["lora", "nothing"]):
        pass
    adapters.unload("lora")
    assert not adapters.attached.names
