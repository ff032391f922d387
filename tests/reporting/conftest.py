"""A tiny backbone, a store with an adapter of every kind, and its answers, made once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from polytask.adapters.store import Store
from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.data.task import Kind, Rows
from polytask.inference.predict import MultiTask
from polytask.reporting.answered import Answered, answer
from polytask.reporting.report import report
from tests.reporting.adapters import LABELS, random_adapter, rows_of

NUM_LABELS = 77
HOSTILE = (
    "<script>document.title='hacked'</script>",
    "\"><img src=x onerror=document.title='hacked'>",
    "$\\frac{1}{0}$ & 'quoted'",
    "\u202eright to left\u202c עברית",
    "😀🏳️\u200d🌈 \x00\x1b[31m",
    "x" * 10_000,
)
"""Names of labels, texts and names of files that must be shown as text."""
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
        decides = {"calibration": CALIBRATIONS[kind]} if kind in CALIBRATIONS else None
        store.put(random_adapter(backbone, kind, kind, decides=decides))
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


@pytest.fixture(scope="session")
def hostile_page(backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with 77 labels, the first of which are hostile, as are the first texts and the name of the file."""
    folder = tmp_path_factory.mktemp("hostile")
    labels = [*HOSTILE, *(f"the label number {number}" for number in range(len(HOSTILE), NUM_LABELS))]
    store = Store(folder / "adapters")
    store.put(random_adapter(backbone, "many", labels=labels))
    rows = rows_of("classification", NUM_LABELS, 2 * NUM_LABELS)
    texts = [*HOSTILE, *rows.texts[len(HOSTILE) :]]
    train = rows.take(range(NUM_LABELS))
    report(
        backbone, store, "many", Rows(texts, targets=rows.targets), folder / "report.html", train=train, name=HOSTILE[0]
    )
    return folder / "report.html"
