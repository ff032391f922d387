"""The tables of docs/performance.md are what the CSVs say, and what is written by hand between them stays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.scripts import ROOT, script

TEXT = """# Title

Before.

<!-- speed: summary -->
<!-- end -->

Between.

<!-- speed: fused -->
what was here before
<!-- end -->

<!-- speed: train -->
<!-- end -->

After.
"""
FUSED = """model,jobs,tokens_a_text,batch_size,fused_ms_a_step,one_after_another_ms_a_step,speedup
minilm,8,16,8,100.0,150.0,1.50
minilm,8,128,8,800.0,720.0,0.90
"""
TRAIN = """model,texts,method,library,setting,tokens_per_s,ours_over_this,versions
minilm,sst2,houlsby,polytask,default,9000,1.0,torch=2.13.0 polytask=0.1.0
minilm,sst2,houlsby,adapters,default,2000,4.5,torch=2.13.0 adapters=1.3.0
minilm,sst2,houlsby,adapters,"autocast, eager",4500,2.0,torch=2.13.0 adapters=1.3.0
minilm,sst2,houlsby,adapters,"autocast, sdpa",3000,3.0,torch=2.13.0 adapters=1.3.0
"""


@pytest.fixture(scope="module")
def report() -> Iterator[ModuleType]:
    yield from script("report")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    machine = tmp_path / "a-processor-2threads-torch2.13.0"
    machine.mkdir()
    (machine / "fused.csv").write_text(FUSED)
    (machine / "train.csv").write_text(TRAIN)
    return tmp_path


def test_a_table_has_the_rows_of_its_file_and_the_machine_they_are_from(report: ModuleType, results: Path) -> None:
    drawn = report.document(TEXT, results)
    assert "| minilm | 8 | 16 | 8 | 100.0 | 150.0 | 1.50 |" in drawn
    assert "**a-processor-2threads-torch2.13.0**" in drawn
    assert "Versions: adapters 1.3.0, polytask 0.1.0, torch 2.13.0." in drawn
    assert "what was here before" not in drawn


def test_drawing_again_changes_nothing(report: ModuleType, results: Path) -> None:
    once = report.document(TEXT, results)
    assert report.document(once, results) == once


def test_what_is_written_by_hand_stays(report: ModuleType, results: Path) -> None:
    drawn = report.document(TEXT, results)
    assert report.BLOCK.sub("", drawn) == report.BLOCK.sub("", TEXT)


def test_the_summary_holds_ours_against_the_fastest_setting_of_a_peer(report: ModuleType, results: Path) -> None:
    lines = report.document(TEXT, results).splitlines()
    assert "| Houlsby-64, training: over the best of adapters | 1.6, aim 2.5 | 2.00 |" in lines
    assert "| … over its default | aim 4 | 4.50 |" in lines
    assert "| … long texts | 1 | 0.90 |" in lines


def test_what_was_not_measured_is_said_to_be_so(report: ModuleType, tmp_path: Path) -> None:
    drawn = report.document(TEXT, tmp_path)
    assert drawn.count("Not measured yet.") == 2
    assert report.document(drawn, tmp_path) == drawn


def test_a_table_that_nobody_knows_is_refused(report: ModuleType, results: Path) -> None:
    with pytest.raises(SystemExit, match="no table is called 'trian'"):
        report.document(TEXT.replace("speed: train", "speed: trian"), results)


def test_the_document_is_as_its_files_have_it(report: ModuleType) -> None:
    text = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert report.document(text, ROOT / "results" / "speed") == text
    assert {found["name"] for found in report.BLOCK.finditer(text)} == {"summary", *report.EXHIBITS}
