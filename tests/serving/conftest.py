"""Session fixtures: a tiny backbone, a store with adapters of every method and head, and a server over it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the server is not installed: pip install 'polytask[serve]'")

from polytask.adapters.store import Store
from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.inference.predict import MultiTask
from tests.cli.test_cli import averaging
from tests.serving.servers import Served, serving
from tests.serving.stores import fill
from tests.tiny import save_tiny


@pytest.fixture(scope="session")
def backbone_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT that pools by the mean, also for programs that load it by themselves."""
    return averaging(save_tiny(tmp_path_factory.mktemp("backbone")))


@pytest.fixture(scope="session")
def backbone(backbone_folder: Path) -> Backbone:
    """The tiny backbone, shared by tests that do not train."""
    return load_backbone(backbone_folder, device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def filled(backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a store with an adapter of every method and head. Read-only."""
    folder = tmp_path_factory.mktemp("filled") / "adapters"
    fill(Store(folder), backbone)
    return folder


@pytest.fixture
def folder(filled: Path, tmp_path: Path) -> Path:
    """A copy of ``filled`` that a test may change."""
    return Path(shutil.copytree(filled, tmp_path / "adapters"))


@pytest.fixture(scope="session")
def served(backbone: Backbone, filled: Path) -> Iterator[Served]:
    """A server over ``filled``, for tests that change nothing."""
    with serving(backbone, filled) as served:
        yield served


@pytest.fixture(scope="session")
def library(backbone: Backbone, filled: Path) -> MultiTask:
    """The library over ``filled``, to compare answers with."""
    return MultiTask(backbone, Store(filled))
