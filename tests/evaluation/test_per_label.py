"""Scores of each label, the confusion matrix and its figure."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest

from polytask.drawing.confusion import draw_confusion
from polytask.errors import PolytaskError
from polytask.evaluation.per_label import LabelScores, report

LABELS = ("ham", "spam", "unsure")
TARGETS = [0, 0, 0, 1, 1, 1]
ANSWERS = [0, 0, 1, 1, 1, 0]


def test_each_label_is_scored_and_one_that_never_occurs_is_listed() -> None:
    found = report("classification", LABELS, TARGETS, [*ANSWERS[:-1], 1])
    assert found is not None
    ham, spam, unsure = found.labels
    assert ham == LabelScores("ham", 1.0, pytest.approx(2 / 3), pytest.approx(0.8), 3)
    assert spam == LabelScores("spam", 0.75, 1.0, pytest.approx(6 / 7), 3)
    assert unsure == LabelScores("unsure", 0.0, 0.0, 0.0, 0)


def test_the_confusion_matrix_has_targets_in_rows_and_predictions_in_columns() -> None:
    found = report("classification", LABELS, [0, 0, 0, 1], [0, 1, 1, 1])
    assert found is not None
    assert found.confusion == ((1, 2, 0), (0, 1, 0), (0, 0, 0))


@pytest.mark.parametrize("num_labels", [1, 2])
def test_a_multilabel_report_has_no_confusion_matrix(num_labels: int) -> None:
    targets = [tuple(range(num_labels)), (0,), ()]
    found = report("multilabel", LABELS[:num_labels], targets, [(0,), (), (0,)])
    assert found is not None
    assert found.labels[0] == LabelScores("ham", 0.5, 0.5, 0.5, 2)
    assert len(found.labels) == num_labels
    assert found.confusion is None


def test_a_regression_has_no_labels_to_report_on() -> None:
    assert report("regression", (), [0.5, 1.0], [0.5, 1.0]) is None


def test_the_json_of_a_report_is_plain() -> None:
    found = report("classification", LABELS[:2], TARGETS, ANSWERS)
    assert found is not None
    classes, confusion = found.to_json().values()
    assert classes[0] == {"label": "ham", "precision": 2 / 3, "recall": 2 / 3, "f1": pytest.approx(2 / 3), "rows": 3}
    assert confusion == ((2, 1), (1, 2))


def test_a_confusion_matrix_is_drawn_even_with_labels_that_look_like_formulas(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "new" / "confusion.png"
    draw_confusion(path, ["$x_{", "a very long label\nof two lines indeed"], [[3, 1], [0, 0]], "50% of $ and $")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert list(path.parent.iterdir()) == [path]


def test_a_figure_of_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PolytaskError, match=r"End its name in \.png"):
        draw_confusion(tmp_path / "confusion.doc", ["a"], [[1]])
    assert not list(tmp_path.iterdir())


def test_without_matplotlib_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = builtins.__import__

    def missing(name: str, *rest: Any, **named: Any) -> Any:
        if name.partition(".")[0] == "matplotlib":
            raise ImportError(name)
        return there(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(PolytaskError, match=r'pip install "polytask\[paper\]"'):
        draw_confusion(tmp_path / "confusion.png", ["a"], [[1]])
