"""What the report is computed from is what the adapter answers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from polytask.data.task import Kind
from polytask.reporting.answered import Answered, count_labels

Answers = Callable[[Kind], Answered]


def test_predictions_and_probabilities_are_those_of_predict(answered: Answers) -> None:
    own = answered("classification")
    given = own.model.predict(own.texts, "classification")
    assert [own.labels[index] for index in own.predictions] == [prediction.label for prediction in given]
    assert own.probs == [pytest.approx(list((prediction.probs or {}).values()), abs=1e-6) for prediction in given]
    assert own.scores[0] != pytest.approx(own.probs[0]), "this adapter is calibrated"


def test_sets_numbers_and_spans_have_the_form_of_targets(answered: Answers) -> None:
    several = answered("multilabel")
    given = several.model.predict(several.texts, "multilabel")
    assert [tuple(several.labels[k] for k in own) for own in several.predictions] == [own.labels for own in given]
    numbers = answered("regression")
    assert [row[0] for row in numbers.scores] == list(numbers.predictions)
    spans = answered("span")
    (first,) = spans.predictions[0]
    assert (spans.rows.pairs or [""])[0][first.start :].startswith(first.text)


def test_tokens_of_the_whole_text_are_counted(answered: Answers) -> None:
    own = answered("classification")
    assert own.num_tokens == [len(text.split()) + 2 for text in own.rows.texts]


def test_labels_are_counted_in_the_training_rows(answered: Answers) -> None:
    assert answered("classification").label_counts == {"bad": 6, "good": 6}
    assert count_labels([(0, 2), (), (2,)], 3) == [1, 0, 2]
