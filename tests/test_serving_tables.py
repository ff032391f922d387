"""The tables of docs/serving.md are what the CSVs say."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest

from tests.scripts import ROOT, script


@pytest.fixture(scope="module")
def serving_tables() -> Iterator[ModuleType]:
    yield from script("serving_tables")


def test_the_document_is_as_its_results_have_it(serving_tables: ModuleType) -> None:
    text = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    assert serving_tables.document(text, ROOT / "results" / "speed") == text
    for name in serving_tables.TABLES:
        assert f"<!-- serving: {name} -->\n|" in text
