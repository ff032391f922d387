"""What a score must be held against: answering the commonest label always, and words counted without a transformer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from polytask.data.task import Rows, Target, Task
from polytask.evaluation.metrics import score

STRENGTHS = (1.0, 10.0, 100.0)


@dataclass(frozen=True)
class Majority:
    """The commonest label of the training rows, and the score of a classifier that answers every row with it."""

    label: str
    score: float


def majority_score(task: Task, rows: Rows) -> float | None:
    """The score of ``majority``."""
    found = majority(task, rows)
    return None if found is None else found.score


def majority(task: Task, rows: Rows) -> Majority | None:
    """The task's metric where every row is given the commonest label of the training rows, of several the first.

    None where there is no one label to give (regression, several labels a row) or none to compare with.
    """
    if task.kind != "classification" or not rows.targets or not task.train.targets:
        return None
    counts = Counter(task.train.targets)
    commonest = max(range(len(task.labels)), key=counts.__getitem__)
    value = score(task.metric, task.kind, rows.targets, [commonest] * len(rows), num_labels=len(task.labels))
    return Majority(task.labels[commonest], value)


def tfidf_score(task: Task, rows: Rows) -> float:
    """The task's metric with TF-IDF and logistic regression, from scikit-learn.

    Words and word pairs that occur in two texts or more, of the whole training texts; of three strengths of
    regularisation, the best on the validation rows.
    """
    train, (validation, asked) = _counted(task, [task.validation, rows])

    def scored(model: Any, features: Any, targets: Sequence[Target] | None) -> float:
        predictions = model.predict(features).tolist()
        return score(task.metric, task.kind, targets or (), predictions, num_labels=len(task.labels))

    models = [_fitted(train, task, strength) for strength in STRENGTHS]
    best = max(models, key=lambda model: scored(model, validation, task.validation.targets))
    return scored(best, asked, rows.targets)


def tfidf_answers(
    task: Task,
    asked: Sequence[Rows],
    *,
    strength: float = 10.0,
    ngrams: int = 2,
    min_df: int = 2,
    sublinear: bool = True,
) -> list[list[int]]:
    """What logistic regression on TF-IDF of the training texts answers to each of these sets of rows.

    Args:
        strength: scikit-learn's ``C``, the inverse of the regularisation.
        ngrams: up to how many words in a row count as one.
        min_df: in how many texts a word must occur.
        sublinear: count a word by 1 + log of its occurrences.
    """
    train, features = _counted(task, asked, ngrams, min_df, sublinear)
    model = _fitted(train, task, strength)
    return [model.predict(own).tolist() for own in features]


def _counted(
    task: Task, asked: Sequence[Rows], ngrams: int = 2, min_df: int = 2, sublinear: bool = True
) -> tuple[Any, list[Any]]:
    """TF-IDF of the training texts, and of these rows by the same vocabulary."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(ngram_range=(1, ngrams), min_df=min_df, sublinear_tf=sublinear)
    train = vectorizer.fit_transform(_whole(task.train))
    return train, [vectorizer.transform(_whole(rows)) for rows in asked]


def _fitted(features: Any, task: Task, strength: float) -> Any:
    from sklearn.linear_model import LogisticRegression

    assert task.kind == "classification", "a baseline of one label a row"
    return LogisticRegression(C=strength, solver="newton-cg").fit(features, task.train.targets)


def _whole(rows: Rows) -> list[str]:
    """Each text, or both texts of a pair, as one string."""
    return [*rows.texts] if rows.pairs is None else [f"{text}\n{pair}" for text, pair in zip(rows.texts, rows.pairs)]
