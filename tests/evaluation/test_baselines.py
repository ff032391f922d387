"""The majority class and TF-IDF baselines."""

from __future__ import annotations

import pytest

from polytask.data.task import Rows, Task
from polytask.evaluation.baselines import majority_score, tfidf_score

WORDS = (("good", "great"), ("bad", "awful"))


def rows(num_good: int, num_bad: int) -> Rows:
    texts = [f"a {WORDS[0][n % 2]} film" for n in range(num_good)] + [
        f"a {WORDS[1][n % 2]} film" for n in range(num_bad)
    ]
    return Rows(texts, targets=[1] * num_good + [0] * num_bad)


def task(metric: str = "accuracy", test: Rows | None = None) -> Task:
    return Task("mood", "classification", ("bad", "good"), metric, rows(12, 8), rows(4, 4), test)


def test_the_majority_class_is_counted_on_the_training_rows() -> None:
    assert majority_score(task(), rows(1, 9)) == pytest.approx(0.1)


def test_the_majority_class_is_scored_by_the_tasks_own_metric() -> None:
    assert majority_score(task("matthews"), rows(5, 5)) == 0
    assert majority_score(task("f1"), rows(5, 5)) == pytest.approx(2 / 3)


def test_a_regression_has_no_majority_class() -> None:
    points = Rows(["a", "b"], targets=[0.5, 1.5])
    assert majority_score(Task("points", "regression", (), "pearson", points, points), points) is None


def test_tfidf_separates_texts_with_different_words() -> None:
    assert tfidf_score(task(), rows(5, 5)) == 1


def test_tfidf_reads_both_texts_of_a_pair() -> None:
    plain = rows(12, 8)
    pairs = Rows(["the same text"] * 20, pairs=plain.texts, targets=plain.targets)
    paired = Task("pairs", "classification", ("bad", "good"), "accuracy", pairs, pairs)
    assert tfidf_score(paired, pairs) == 1
