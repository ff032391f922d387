"""Rows whose label was changed look mislabelled, and labels that the adapter cannot tell are not judged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from polytask.data.task import Kind
from polytask.reporting.answered import Answered
from polytask.reporting.mislabelled import judged_labels, mislabelled_section, several_label_errors

Answers = Callable[[Kind], Answered]


def told(answered: Answered, scores: list[tuple[float, ...]]) -> Answered:
    """The same rows with these scores of the head; nothing is cached of the others."""
    return replace(answered, scores=scores)


def test_a_changed_label_is_found_with_both_probabilities(answered: Answers) -> None:
    own = answered("classification")
    wrong = 5
    scores = [(0.98, 0.02) if (row % 2 == 0) != (row == wrong) else (0.02, 0.98) for row in range(24)]
    section = mislabelled_section(told(own, scores))
    assert section.data["rows"] == 1
    (doubt,) = section.data["clearest"]
    assert (doubt["row"], doubt["label"], doubt["likely"]) == (wrong + 1, "good", "bad")
    assert doubt["likely_probability"] > doubt["probability"]


def test_of_several_labels_those_that_are_ranked_badly_are_left_out(answered: Answers) -> None:
    own = answered("multilabel")
    scores = [(0.9 if 0 in target else 0.1, 0.5, 0.9 if 2 in target else 0.1) for target in own.targets]
    scores[0] = (0.05, 0.5, scores[0][2])  # this row has label 0
    changed = told(own, scores)
    assert judged_labels(changed) == [0, 2]
    found, share = several_label_errors(changed, [0, 2])
    assert [(doubt.row, doubt.label, doubt.likely) for doubt in found] == [(1, "x", "not x")]
    assert share is not None
    assert 0 < share < 0.1
    assert "1 label left out" in " ".join(mislabelled_section(changed).remarks)
