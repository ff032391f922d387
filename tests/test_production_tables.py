"""The tables of docs/production.md are what the results say, and what is written by hand between them stays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.scripts import ROOT, script


@pytest.fixture(scope="module")
def production() -> Iterator[ModuleType]:
    yield from script("production")


def test_the_document_is_as_its_results_have_it(production: ModuleType) -> None:
    text = (ROOT / "docs" / "production.md").read_text(encoding="utf-8")
    assert production.document(text, ROOT / "results") == text
    assert {found["name"] for found in production.BLOCK.finditer(text)} == set(production.TABLES)


def test_a_table_has_means_spreads_and_the_number_of_seeds(production: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "few_shot"
    folder.mkdir()
    for seed, accuracy in enumerate((0.5, 0.7)):
        run = {"task": "SST-2", "method": "probe", "rows_a_class": 8, "accuracy": accuracy}
        (folder / f"{seed}.json").write_text(json.dumps(run))
    drawn = production.document("Above.\n<!-- results: few_shot -->\nold\n<!-- end -->\nBelow.\n", tmp_path)
    assert drawn.startswith("Above.\n<!-- results: few_shot -->\n| rows a class | method | SST-2 | mean |\n")
    assert "| 8 | probe | 0.600 ± 0.141 (2) |" in drawn
    assert drawn.endswith("\n<!-- end -->\nBelow.\n")
    assert production.document(drawn, tmp_path) == drawn


def test_a_table_that_nobody_knows_is_refused(production: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no table is called 'few'"):
        production.document("<!-- results: few -->\n<!-- end -->", tmp_path)
    assert "Not measured yet." in production.document("<!-- results: few_shot -->\n<!-- end -->", tmp_path)
