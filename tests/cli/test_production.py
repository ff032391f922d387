"""Thresholds, abstaining, promoting and rolling back on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from polytask.adapters.promotions import promotions
from polytask.adapters.store import Store
from polytask.backbones.loading import load_backbone
from polytask.data.task import Task
from polytask.methods import Houlsby
from polytask.training.loop import train
from polytask.training.recipe import Recipe
from tests.conftest import BAD, GOOD


@pytest.fixture
def folder(tmp_path: Path, tiny_bert_folder: Path) -> Path:
    """Labelled rows, ``rows.csv``."""
    lines = [f"{text},{label}" for texts, label in ((GOOD, "good"), (BAD, "bad")) for text in texts] * 8
    (tmp_path / "rows.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    return tmp_path


def polytask(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr."""
    from polytask.cli import app

    code = app([*map(str, arguments)], standalone_mode=False) or 0
    said = capsys.readouterr()
    return int(code), said.out, said.err


def test_train_with_a_goal_and_overrule_it(
    folder: Path, tiny_bert_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, store = folder / "rows.csv", folder / "store"
    how = ("--backbone", tiny_bert_folder, "--epochs", 1, "--size", 4, "--validation", rows, "--test", rows)
    code, out, _ = polytask(
        capsys, "train", rows, "--task", "mood", *how, "--coverage", 0.5, "--store", store, "--json"
    )
    assert code == 0
    assert json.loads(out)["thresholds"]["test"]["coverage"][0] >= 0.5
    ask = ("predict", "a film", "--task", "mood", "--store", store, "--json")
    _, out, _ = polytask(capsys, *ask, "--threshold", 1)
    assert (json.loads(out)["label"], json.loads(out)["abstained"]) == (None, True)
    _, out, _ = polytask(capsys, *ask, "--threshold", 0)
    assert json.loads(out)["label"] in ("good", "bad")
    code, _, err = polytask(capsys, "train", rows, "--task", "mood", *how, "--coverage", 0.5, "--precision", 0.9)
    assert code == 2
    assert "thresholds hold one thing" in " ".join(err.split())


def test_a_worse_version_is_refused_a_better_one_promoted_and_rolled_back(
    folder: Path, tiny_bert_folder: Path, tiny_task: Task, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(folder / "store")
    backbone = load_backbone(tiny_bert_folder, device="cpu", dtype="float32")
    for epochs, lr in ((20, 1e-2), (1, 1e-6), (20, 1e-2)):
        adapter, _ = train(backbone, tiny_task, Recipe(Houlsby(4), lr=lr, epochs=epochs, batch_size=8))
        store.put(adapter)
    where = ("--to", "prod", "--on", folder / "rows.csv", "--store", folder / "store", "--dtype", "float32")
    assert polytask(capsys, "promote", "mood@1", *where)[0] == 0
    code, _, err = polytask(capsys, "promote", "mood@2", *where)
    assert code == 2
    assert "mood@prod stays mood@1" in " ".join(err.split())
    assert store.entry("mood@prod").version == 1
    code, out, _ = polytask(capsys, "promote", "mood@3", *where, "--dry-run", "--json")
    assert (code, json.loads(out)["moved"], json.loads(out)["is_allowed"]) == (0, False, True)
    assert store.entry("mood@prod").version == 1
    assert polytask(capsys, "promote", "mood@3", *where)[0] == 0
    assert [(own["version"], own["moved"]) for own in promotions(store, "mood")] == [(1, True), (2, False), (3, True)]
    assert polytask(capsys, "rollback", "mood", "--store", folder / "store")[0] == 0
    assert store.entry("mood@prod").version == 1
