"""Thresholds, abstaining, promoting and rolling back on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from polytask.adapters.promotions import promotions
from polytask.adapters.store import Store
from polytask.backbones.loading import load_backbone
from polytask.data.formats import read_table
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


def test_thresholds_are_trained_and_can_be_overridden(
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
    assert "thresholds can reach only one goal" in " ".join(err.split())


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


def test_a_probe_and_none_of_these(folder: Path, tiny_bert_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, store = folder / "odd.csv", folder / "store"
    odd = "".join(f"{text},oos\n" for text in ("market share price", "see you at five", "call now") * 8)
    rows.write_text((folder / "rows.csv").read_text() + odd)
    how = ("--backbone", tiny_bert_folder, "--validation", rows, "--test", rows, "--store", store, "--json")
    how = ("train", rows, "--task", "mood", "--method", "probe", *how)
    code, out, _ = polytask(capsys, *how, "--none-of-these", 0.1, "--none-label", "oos")
    said = json.loads(out)
    assert (code, said["method"], said["parameters"]["trained"]) == (0, "probe", 0)
    assert said["none"]["found"][0] > 0.5
    assert said["probe"] is None
    assert Store(store).entry("mood").labels == ("bad", "good")
    _, out, _ = polytask(capsys, "predict", "market share price", "--task", "mood", "--store", store, "--json")
    assert (json.loads(out)["label"], json.loads(out)["reason"]) == (None, "none of these")
    where = ("--store", store)
    code, out, _ = polytask(capsys, "eval", rows, "--task", "mood", *where, "--json")
    scored = json.loads(out)
    assert (code, scored["rows"], scored["none"]["label"], scored["none"]["rows"]) == (0, 96, "oos", 24)
    assert scored["none"]["found"] == said["none"]["found"]
    assert scored["none"]["false_alarms"] == said["none"]["false_alarms"]
    assert scored["none"]["auroc"] == pytest.approx(said["none"]["auroc"])
    assert 0 <= scored["none"]["fpr95"] <= 1
    check_tables_say_why_there_is_no_label(folder, rows, capsys)
    page = ("--out", folder / "page.html", "--train", rows)
    code, out, _ = polytask(capsys, "report", "mood", rows, *page, *where, "--json")
    assert (code, json.loads(out)["none_of_these"]["found"]) == (0, said["none"]["found"])
    assert json.loads(out)["duplicates"]["in_training"]["rows"] == 96
    code, _, err = polytask(capsys, "eval", rows, "--task", "mood", *where, "--none-label", "bad")
    assert (code, "'bad' is one of its labels" in " ".join(err.split())) == (2, True)
    check_a_version_that_detects_is_better(folder, rows, how, capsys)
    code, out, _ = polytask(capsys, *how, "--dry-run")
    assert (code, json.loads(out)["parameters"]["trained"], json.loads(out)["epochs"]) == (0, 0, 1)
    code, _, err = polytask(capsys, *how, "--lr", 1e-3)
    assert (code, "Leave out --lr and --epochs" in " ".join(err.split())) == (2, True)
    code, _, err = polytask(capsys, *how, "--none-label", "odd")
    assert (code, "no row has the label 'odd'" in " ".join(err.split())) == (2, True)


def check_tables_say_why_there_is_no_label(folder: Path, rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The column ``mood_reason`` of streamed and whole tables is ``reason`` of the JSON."""
    ask = ("predict", "--task", "mood", "--store", folder / "store", "--file", rows)
    _, out, _ = polytask(capsys, *ask, "--json")
    reasons = [json.loads(line).get("reason") for line in out.splitlines()]
    assert set(reasons) == {None, "none of these"}
    for output in ("streamed.csv", "whole.jsonl"):
        assert polytask(capsys, *ask, "--output", folder / output)[0] == 0
        found = read_table(folder / output)
        assert found.header == ("text", "label", "mood", "mood_prob", "mood_reason")
        assert [row[-1] or None for row in found.rows] == reasons
        assert [not row[2] for row in found.rows] == [reason is not None for reason in reasons]
    assert polytask(capsys, *ask, "--output", folder / "sure.csv", "--threshold", 1)[0] == 0
    assert {row[-1] for row in read_table(folder / "sure.csv").rows} == {"below the threshold"}
    assert polytask(capsys, *ask, "--output", folder / "all.csv", "--threshold", 0)[0] == 0
    assert read_table(folder / "all.csv").header == ("text", "label", "mood", "mood_prob")


def check_a_version_that_detects_is_better(
    folder: Path, rows: Path, how: tuple[object, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """``mood@2`` is ``mood@1`` without its detector: it answers rows of none of these with a label, so it is worse."""
    where = ("--store", folder / "store")
    plain = [folder / "rows.csv" if own == rows else own for own in how]
    assert polytask(capsys, *plain)[0] == 0
    code, out, _ = polytask(capsys, "compare", "mood@1", "mood@2", rows, *where, "--json")
    found = json.loads(out)
    assert (code, found["rows"]) == (0, 120)
    assert found["a"]["score"] > found["b"]["score"]
    code, _, err = polytask(capsys, "compare", "mood@1", "mood@2", rows, *where, "--metric", "f1")
    assert (code, "none of these would be a third" in " ".join(err.split())) == (2, True)
    promote = ("--to", "prod", "--on", rows, *where)
    assert polytask(capsys, "promote", "mood@1", *promote)[0] == 0
    code, _, err = polytask(capsys, "promote", "mood@2", *promote)
    assert (code, "mood@prod stays mood@1" in " ".join(err.split())) == (2, True)
    code, _, err = polytask(capsys, "promote", "mood@1", *promote)
    assert (code, "mood@prod already points to mood@1" in " ".join(err.split())) == (2, True)
    assert polytask(capsys, "promote", "mood@1", "--to", "new", "--on", folder / "no.csv", *where)[0] == 2
    code, _, err = polytask(capsys, "rollback", "nope", "--store", folder / "store")
    assert (code, "nope" in err, "promoted" in err) == (2, True, False)


def test_a_label_of_none_of_these_leaves_two_labels(
    folder: Path, tiny_bert_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    how = ("--backbone", tiny_bert_folder, "--store", folder / "store", "--none-label", "bad")
    code, _, err = polytask(capsys, "train", folder / "rows.csv", *how)
    assert (code, "one label is left" in " ".join(err.split())) == (2, True)


def test_several_files_a_sweep_and_a_search_take_goals(
    folder: Path, tiny_bert_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, store = folder / "rows.csv", folder / "store"
    (folder / "other.csv").write_text(rows.read_text())
    how = ("--backbone", tiny_bert_folder, "--epochs", 1, "--store", store, "--json", "--coverage", 0.3)
    code, out, _ = polytask(capsys, "train", rows, folder / "other.csv", "--size", 4, *how)
    assert code == 0
    lines = [json.loads(line) for line in out.splitlines()]
    assert [own["thresholds"]["goal"] for own in lines] == ["coverage", "coverage"]
    assert all("score" in own["probe"] for own in lines)
    code, out, _ = polytask(capsys, "train", rows, "--tune", "--lr", 1e-3, *how, "--no-probe")
    assert (code, json.loads(out)["thresholds"]["goal"], json.loads(out)["probe"]) == (0, "coverage", None)
    where = ("--results", folder / "sweep", "--seeds", 1, "--size", "2,4")
    code, out, _ = polytask(capsys, "sweep", rows, *where, *how, "--none-of-these", 0.2)
    best = json.loads(out)["best"]
    assert (code, best["thresholds"]["goal"], best["none"]["false_alarm"]) == (0, "coverage", 0.2)
    assert Store(store).entry("rows").header.thresholds is not None
