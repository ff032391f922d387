"""A grid search over an adapter estimator, whose candidates are trained in fused passes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sklearn.base import clone, is_classifier
from sklearn.model_selection import GridSearchCV, ParameterGrid, check_cv
from sklearn.utils import _safe_indexing

from polytask.data.task import Task
from polytask.errors import PolytaskError
from polytask.sklearn.estimators import PRETRAINED, AdapterEstimator, Key
from polytask.training.fused import Outcome, train_many
from polytask.training.recipe import Recipe


@contextmanager
def trained_in_advance(jobs: Sequence[tuple[AdapterEstimator, Task, Recipe]]) -> Iterator[None]:
    """Train the jobs of many estimators in fused passes. Within the block, ``fit`` uses the outcomes."""
    by_backbone: dict[Key, dict[Key, tuple[AdapterEstimator, Task, Recipe]]] = {}
    for job in jobs:
        by_backbone.setdefault(job[0]._backbone_key, {})[job[0].key(*job[1:])] = job
    outcomes: dict[Key, Outcome] = {}
    for own in by_backbone.values():
        frozen = next(iter(own.values()))[0].backbone_
        named = {str(number): (task, recipe) for number, (_, task, recipe) in enumerate(own.values())}
        outcomes |= dict(zip(own, train_many(frozen, named).values(), strict=True))
    token = PRETRAINED.set(outcomes)
    try:
        yield
    finally:
        PRETRAINED.reset(token)


class AdapterGridSearchCV(GridSearchCV):  # type: ignore[misc]
    """``GridSearchCV`` over an adapter estimator; trains all candidates on all splits in fused passes.

    Fused training equals separate training, so the results are those of ``GridSearchCV``, in less time. It takes the
    same arguments; ``n_jobs`` has no benefit. Splits that change with each call (``shuffle`` without
    ``random_state``) are trained one by one.
    """

    def fit(self, X: Any, y: Any = None, **params: Any) -> AdapterGridSearchCV:
        """As ``GridSearchCV.fit``."""
        if not isinstance(self.estimator, AdapterEstimator):
            raise PolytaskError(
                f"AdapterGridSearchCV searches over an AdapterClassifier or AdapterRegressor, not over a "
                f"{type(self.estimator).__name__}. Use GridSearchCV for pipelines"
            )
        splits = check_cv(self.cv, y, classifier=is_classifier(self.estimator)).split(X, y)
        kept = [rows for rows, _ in splits]
        jobs = []
        for candidate in ParameterGrid(self.param_grid):
            estimator = clone(self.estimator).set_params(**candidate)
            jobs += [(estimator, *estimator.job(_safe_indexing(X, rows), _safe_indexing(y, rows))) for rows in kept]
        with trained_in_advance(jobs):
            super().fit(X, y, **params)
        return self
