"""Baselines without a transformer: the majority class, and logistic regression on TF-IDF features."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from polytask.data.task import Rows, Target, Task
from polytask.evaluation.metrics import score

STRENGTHS = (1.0, 10.0, 100.0)
"""Values of scikit-learn's ``C`` among which the validation rows choose."""


@dataclass(frozen=True)
class Majority:
    """The most frequent label of the training rows, and the score of predicting it for every row."""

    label: str
    score: float


def majority_score(task: Task, rows: Rows) -> float | None:
    """Return the score of ``majority``, or None."""
    found = majority(task, rows)
    return None if found is None else found.score


def majority(task: Task, rows: Rows) -> Majority | None:
    """Score predicting the most frequent training label for every row; of equally frequent labels, the first.

    Args:
        task: the task.
        rows: the rows to score.

    Returns:
        The label and its score by the task's metric; None unless each row has one label and ``rows`` have targets.
    """
    if task.kind != "classification" or not rows.targets or not task.train.targets:
        return None
    counts = Counter(task.train.targets)
    majority_label = max(range(len(task.labels)), key=counts.__getitem__)
    value = score(task.metric, task.kind, rows.targets, [majority_label] * len(rows), num_labels=len(task.labels))
    return Majority(task.labels[majority_label], value)


def tfidf_score(task: Task, rows: Rows) -> float:
    """Score logistic regression on TF-IDF features by the task's metric.

    The features are words and word pairs that occur in at least two training texts. The regularization is the best of
    ``STRENGTHS`` on the validation rows.

    Args:
        task: a classification task.
        rows: the rows to score.
    """
    train, (validation, features_of_rows) = _tfidf_features(task, [task.validation, rows])

    def scored(model: Any, features: Any, targets: Sequence[Target] | None) -> float:
        predictions = model.predict(features).tolist()
        return score(task.metric, task.kind, targets or (), predictions, num_labels=len(task.labels))

    models = [_fit_logistic_regression(train, task, strength) for strength in STRENGTHS]
    best = max(models, key=lambda model: scored(model, validation, task.validation.targets))
    return scored(best, features_of_rows, rows.targets)


def tfidf_answers(
    task: Task,
    asked: Sequence[Rows],
    *,
    strength: float = 10.0,
    ngrams: int = 2,
    min_df: int = 2,
    sublinear: bool = True,
) -> list[list[int]]:
    """Predict several sets of rows with logistic regression on TF-IDF features of the training texts.

    Args:
        task: a classification task.
        asked: the sets of rows.
        strength: scikit-learn's ``C``, the inverse of the regularization strength.
        ngrams: the largest n of the word n-grams.
        min_df: the number of training texts in which an n-gram must occur.
        sublinear: use 1 + log(tf) instead of the term frequency tf.

    Returns:
        Label indices, one list per set of rows.
    """
    train, features = _tfidf_features(task, asked, ngrams, min_df, sublinear)
    model = _fit_logistic_regression(train, task, strength)
    return [model.predict(own).tolist() for own in features]


def _tfidf_features(
    task: Task, asked: Sequence[Rows], ngrams: int = 2, min_df: int = 2, sublinear: bool = True
) -> tuple[Any, list[Any]]:
    """Return the TF-IDF features of the training texts and of these rows, with the same vocabulary."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(ngram_range=(1, ngrams), min_df=min_df, sublinear_tf=sublinear)
    train = vectorizer.fit_transform(_joined_texts(task.train))
    return train, [vectorizer.transform(_joined_texts(rows)) for rows in asked]


def _fit_logistic_regression(features: Any, task: Task, strength: float) -> Any:
    from sklearn.linear_model import LogisticRegression

    assert task.kind == "classification", "this baseline needs one label per row"
    return LogisticRegression(C=strength, solver="newton-cg").fit(features, task.train.targets)


def _joined_texts(rows: Rows) -> list[str]:
    """Return each text, or both texts of a pair, as one string."""
    return [*rows.texts] if rows.pairs is None else [f"{text}\n{pair}" for text, pair in zip(rows.texts, rows.pairs)]
