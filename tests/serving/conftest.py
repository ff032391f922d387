"""A tiny backbone and a store with adapters of every method and head, made once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from polytask.backbones import Backbone, load_backbone
from polytask.store import Store
from tests.serving.stores import fill


@pytest.fixture(scope="session")
def backbone(tiny_bert_folder: Path) -> Backbone:
    """A tiny BERT, shared by all that only answer."""
    return load_backbone(tiny_bert_folder, device="cpu", dtype="float32", pooling="mean")


@pytest.fixture(scope="session")
def filled(backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a store; not to be written to."""
    folder = tmp_path_factory.mktemp("filled") / "adapters"
    fill(Store(folder), backbone)
    return folder


@pytest.fixture
def folder(filled: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    return Path(shutil.copytree(filled, tmp_path / "adapters"))
