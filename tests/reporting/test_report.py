"""The page stands alone, has the sections of its kind, and survives hostile names, one row and no mistakes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import polytask as pt
from polytask.adapters.store import Store
from polytask.backbones.backbone import Backbone
from polytask.data.task import Kind, Rows
from polytask.errors import DataError, PolytaskError
from polytask.reporting.answered import Answered
from polytask.reporting.report import SECTIONS, check_answers, labelled_rows, report, report_of
from tests.paper.test_report import Reader
from tests.reporting.adapters import LABELS, random_adapter, rows_of

Answers = Callable[[Kind], Answered]
HOSTILE = (
    "<script>document.title='hacked'</script>",
    "\"><img src=x onerror=document.title='hacked'>",
    "$\\frac{1}{0}$ & 'quoted'",
    "\u202eright to left\u202c עברית",
    "😀🏳️\u200d🌈 \x00\x1b[31m",
    "x" * 10_000,
)


@pytest.mark.parametrize("kind", LABELS)
def test_the_page_refers_to_nothing_outside_itself(answered: Answers, kind: Kind) -> None:
    made = report_of(answered(kind), "test.csv")
    page = Reader(made.html)
    assert not page.open
    assert all(own.startswith(("#", "data:image/png;base64,")) for own in page.references)
    assert not page.tags & {"script", "link", "img", "iframe", "object"}
    assert not re.search(r"@import|url\(\s*['\"]?(?!#)", made.html)
    assert set(re.findall(r"https?://[^\s\"'<)]+", made.html)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert page.ids == [name for name in made.figures if name not in ("adapter", "kind", "data", "rows")]
    assert len(page.ids) >= len(SECTIONS[kind]) - 1
    assert len(made.html) < 1_000_000
    json.dumps(made.figures, allow_nan=False)


def test_the_page_is_the_same_each_time(answered: Answers) -> None:
    assert report_of(answered("regression"), "test.csv") == report_of(answered("regression"), "test.csv")


@pytest.fixture(scope="module")
def hostile(backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> pt.Report:
    store = Store(tmp_path_factory.mktemp("hostile"))
    store.put(random_adapter(backbone, "hostile", labels=HOSTILE))
    rows = rows_of("classification", len(HOSTILE), 12)
    texts = [*HOSTILE, *rows.texts[len(HOSTILE) :]]
    return report(backbone, store, "hostile", Rows(texts, targets=rows.targets), train=rows, name="<b>.csv")


def test_hostile_names_and_texts_are_shown_as_text_and_cut(hostile: pt.Report) -> None:
    page = Reader(hostile.html)
    assert not page.open
    assert not page.tags & {"script", "img", "b"} - {"b"}
    assert "<b>.csv" not in hostile.html
    assert "&lt;script&gt;document.title" in hostile.html
    assert not re.search("[\x00\x1b\u202e]", hostile.html)
    assert "x" * 500 not in hostile.html
    assert "עברית" in hostile.html


def test_one_row_and_no_mistake_make_a_page(answered: Answers) -> None:
    own = answered("classification")
    right = next(row for row in range(24) if own.predictions[row] == own.targets[row])
    one = replace(
        own,
        rows=own.rows.take([right]),
        predictions=[own.predictions[right]],
        scores=[own.scores[right]],
        num_tokens=[own.num_tokens[right]],
        train=None,
    )
    made = report_of(one, "one.csv")
    assert made.figures["mistakes"] == {"wrong_rows": 0, "surest": []}
    assert "Every row is answered right." in made.html


def test_python_users_get_page_and_figures_and_a_file(
    backbone: Backbone, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rows_of("classification")
    data = {"text": list(rows.texts), "label": [LABELS["classification"][target] for target in rows.targets or ()]}
    stages: list[str] = []
    made = pt.report(
        backbone, store, "classification@1", data, tmp_path / "r.html", progress=lambda stage, *_: stages.append(stage)
    )
    assert (tmp_path / "r.html").read_text(encoding="utf-8") == made.html
    assert made.figures["rows"] == 24
    assert list(dict.fromkeys(stages)) == ["answering the rows", "making the page", "leaving words out"]
    assert capsys.readouterr().out == ""


def test_a_page_that_cannot_be_written_leaves_nothing(answered: Answers, tmp_path: Path) -> None:
    (tmp_path / "report.html").mkdir()
    with pytest.raises(pt.errors.WriteError, match=r"report\.html cannot be written"):
        report_of(answered("span"), "x").save(tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == [tmp_path / "report.html"]


def test_rows_without_labels_and_answers_that_are_no_numbers_are_refused(answered: Answers, store: Store) -> None:
    with pytest.raises(DataError, match="a report needs rows with targets"):
        labelled_rows(store.entry("classification"), Rows(["a"]))
    with pytest.raises(DataError, match="neither"):
        labelled_rows(store.entry("classification"), {"text": ["a"], "label": ["neither"]})
    with pytest.raises(PolytaskError, match="answers with what is not a number"):
        check_answers(replace(answered("classification"), scores=[(float("nan"), 0.5)]))
