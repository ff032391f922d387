"""The scores of each label, with the area under its precision–recall curve."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from sklearn.metrics import average_precision_score

from polytask.data.task import Kind
from polytask.reporting.answered import Answered
from polytask.reporting.label_scores import average_precisions, label_section


def test_average_precision_is_that_of_the_probabilities(answered: Callable[[Kind], Answered]) -> None:
    own = answered("multilabel")
    expected = average_precision_score([int(1 in target) for target in own.targets], [row[1] for row in own.probs])
    assert average_precisions(own)["y"] == pytest.approx(expected)
    none = replace(own, rows=replace(own.rows, targets=[()] * 24))
    assert set(average_precisions(none).values()) == {None}
    assert label_section(none) is None


def test_labels_have_their_rows_here_and_in_training(answered: Callable[[Kind], Answered]) -> None:
    section = label_section(answered("classification"))
    assert section is not None
    assert [(own["label"], own["rows"], own["training_rows"]) for own in section.data["labels"]] == [
        ("bad", 12, 6),
        ("good", 12, 6),
    ]
    assert label_section(answered("regression")) is None
