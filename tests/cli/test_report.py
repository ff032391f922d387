"""``polytask report`` writes the page, prints its figures and refuses what cannot be a page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from polytask.adapters.store import Store
from polytask.backbones.loading import load_backbone
from tests.cli.test_production import polytask
from tests.conftest import BAD, GOOD
from tests.reporting.adapters import random_adapter


@pytest.fixture
def folder(tmp_path: Path, tiny_bert_folder: Path) -> Path:
    """Rows in ``rows.csv`` and an adapter in ``store``."""
    lines = [f"{text},{label}" for texts, label in ((GOOD, "good"), (BAD, "bad")) for text in texts]
    (tmp_path / "rows.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    backbone = load_backbone(tiny_bert_folder, device="cpu", dtype="float32", pooling="mean")
    Store(tmp_path / "store").put(random_adapter(backbone, "mood"))
    return tmp_path


def test_a_report_is_written_and_its_figures_are_printed(
    folder: Path, tiny_bert_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = load_backbone(tiny_bert_folder, device="cpu", dtype="float32", pooling="mean")
    monkeypatch.setattr("polytask.backbones.loading.load_backbone", lambda *_, **__: backbone)  # it pools by the mean
    rows, out = folder / "rows.csv", folder / "page.html"
    code, printed, said = polytask(
        capsys, "report", "mood", rows, "--train", rows, "--store", folder / "store", "--out", out, "--json"
    )
    figures = json.loads(printed)
    assert (code, figures["adapter"], figures["rows"], figures["file"]) == (0, "mood@1", 12, str(out))
    assert figures["duplicates"]["in_training"]["exact"] == 12
    assert "linear probe" in figures["scores"]["scores"]
    assert "answering the rows" in said
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--out", "nowhere/page.html"), "there is no folder"),
        (("--out", "store"), "this is a folder"),
        (("--out", "rows.csv"), "the page would overwrite the rows"),
        (("--train", "none.csv"), "none.csv"),
    ],
)
def test_what_cannot_be_written_or_read_is_refused_before_any_work(
    folder: Path,
    options: tuple[str, str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    code, _, err = polytask(capsys, "report", "mood", "rows.csv", "--store", "store", *options)
    assert code == 2
    assert said in " ".join(err.split())
    assert not (folder / "report.html").exists()
