"""A tiny backbone, a store with adapters of every method and head, and a server over it, made once."""

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
    """It, shared by all that only answer."""
    return load_backbone(backbone_folder, device="cpu", dtype="float32")


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


@pytest.fixture(scope="session")
def served(backbone: Backbone, filled: Path) -> Iterator[Served]:
    """A server over it, for tests that only ask."""
    with serving(backbone, filled) as served:
        yield served


@pytest.fixture(scope="session")
def library(backbone: Backbone, filled: Path) -> MultiTask:
    """What a server's answers are compared with."""
    return MultiTask(backbone, Store(filled))
