"""A tiny backbone, a store with an adapter of every kind, and its answers, made once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from polytask.adapters.store import Store
from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.data.task import Kind
from polytask.inference.predict import MultiTask
from polytask.reporting.answered import Answered, answer
from tests.reporting.adapters import LABELS, random_adapter, rows_of

CALIBRATIONS = {
    "classification": {"kind": "temperature", "temperature": 2.0, "rows": 60},
    "regression": {"kind": "conformal", "level": 0.9, "radius": 2.0, "rows": 60},
}


@pytest.fixture(scope="session")
def backbone(tiny_bert_folder: Path) -> Backbone:
    return load_backbone(tiny_bert_folder, device="cpu", dtype="float32", pooling="mean")


@pytest.fixture(scope="session")
def store(backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """One adapter of every kind, named as the kind."""
    store = Store(tmp_path_factory.mktemp("reporting") / "adapters")
    for kind in LABELS:
        fields = {"calibration": CALIBRATIONS[kind]} if kind in CALIBRATIONS else {}
        store.put(random_adapter(backbone, kind, kind, **fields))
    return store


@pytest.fixture(scope="session")
def answered(backbone: Backbone, store: Store) -> Callable[[Kind], Answered]:
    """The answers of the adapter of a kind to 24 rows, of which it knows the training rows."""
    made: dict[Kind, Answered] = {}

    def answers(kind: Kind) -> Answered:
        if kind not in made:
            rows = rows_of(kind, max(len(LABELS[kind]), 2))
            train = rows.take(range(12))
            made[kind] = answer(MultiTask(backbone, store), store.entry(kind), rows, train=train)
        return made[kind]

    return answers
