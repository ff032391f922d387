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
from polytask.reporting.report import SECTIONS, check_answers, labelled_rows, report_of
from tests.paper.test_report import Reader
from tests.reporting.adapters import LABELS, rows_of

Answers = Callable[[Kind], Answered]


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


def test_hostile_names_and_texts_are_shown_as_text_and_cut(hostile_page: Path) -> None:
    text = hostile_page.read_text(encoding="utf-8")
    page = Reader(text)
    assert not page.open
    assert not page.tags & {"script", "img"}
    assert "&lt;script&gt;document.title" in text
    assert not re.search("[\x00\x1b\u202e]", text)
    assert "x" * 500 not in text
    assert "עברית" in text
    assert len(text) < 1_000_000


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
    rows = rows_of("regression", num_rows=8)
    data = {"text": list(rows.texts), "score": list(rows.targets or ())}
    stages: list[str] = []
    made = pt.report(
        backbone, store, "regression@1", data, tmp_path / "r.html", progress=lambda stage, *_: stages.append(stage)
    )
    assert (tmp_path / "r.html").read_text(encoding="utf-8") == made.html
    assert made.figures["rows"] == 8
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


def test_rows_of_a_file_are_named_by_their_lines(
    backbone: Backbone, store: Store, tmp_path: Path, answered: Answers
) -> None:
    own = answered("classification")
    wrong = next(row for row in range(24) if own.predictions[row] != own.targets[row])
    quoted = f'"{own.rows.texts[wrong]}\n",{own.labels[own.targets[wrong]]}'
    (tmp_path / "rows.csv").write_text(f"text,label\n\n{quoted}\n{own.rows.texts[0]},bad\n{own.rows.texts[0]},bad\n")
    made = pt.report(backbone, store, "classification", tmp_path / "rows.csv")
    assert made.figures["mistakes"]["surest"][0]["row"] == 1
    assert made.figures["mistakes"]["surest"][0]["line"] == 3
    assert "line 3" in made.html
    assert "line 5" in made.html  # which line 6 repeats


def test_rows_without_a_right_label_are_no_mistakes(backbone: Backbone, store: Store, tmp_path: Path) -> None:
    own = rows_of("classification")
    odd = Rows([*own.texts, "win cash"], targets=[*(own.targets or ()), 2])
    made = pt.report(backbone, store, "classification", odd)
    assert made.figures["rows"] == 24
    assert made.figures["none_of_these"]["found"][0] == 0
    assert made.figures["none_of_these"]["not_found"] == [{"row": 1}]
    with pytest.raises(DataError, match="no row has a label"):
        pt.report(backbone, store, "classification", odd.take([24]))
