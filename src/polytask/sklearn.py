"""Adapters as estimators of scikit-learn: ``AdapterClassifier`` and ``AdapterRegressor``, and a fused grid search.

>>> from polytask.sklearn import AdapterClassifier
>>> classifier = AdapterClassifier("minilm", epochs=5).fit(texts, labels)
>>> classifier.predict(["see you at 5"]), classifier.predict_proba(["see you at 5"])

Unusual here: an estimator holds the name of its backbone and never the backbone itself, so that it is cloned and
pickled in no time. Estimators of one process share the backbone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone, is_classifier
from sklearn.model_selection import GridSearchCV, ParameterGrid, check_cv
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_is_fitted

from polytask.adapters.attach import Attached
from polytask.adapters.module import LoadedAdapter
from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.data.encoding import encode
from polytask.data.metric_names import default_metric
from polytask.data.splits import hold_out
from polytask.data.task import Kind, Rows, Task
from polytask.errors import DataError, PolytaskError, UnknownName
from polytask.inference.inputs import check_texts
from polytask.inference.scoring import scores_of
from polytask.methods import METHODS, Method
from polytask.training.fused import Outcome, train_many
from polytask.training.loop import train
from polytask.training.recipe import Recipe

__all__ = ["AdapterClassifier", "AdapterGridSearchCV", "AdapterRegressor"]

NAME = "sklearn"
"""What the task of an estimator is called; ``estimator.adapter_.renamed("spam")`` gives its adapter another name."""
Key = tuple[object, ...]
E = TypeVar("E", bound="AdapterEstimator")


def texts_given(X: Any) -> Rows:
    """What an estimator is given, as rows: texts, or pairs of texts.

    Args:
        X: a sequence of texts or of pairs: a list, an array of strings ``[B]`` or of pairs ``[B, 2]``, a Series.

    Raises:
        DataError: it is one text, or holds something that is no text.
    """
    if isinstance(X, str):
        raise DataError("X is one text, not a list of texts", fix="Put it in brackets: predict([text])")
    texts = [tuple(text) if isinstance(text, list | np.ndarray) else text for text in X]
    is_pair = [isinstance(text, tuple) for text in texts]
    if any(is_pair) and not all(len(text) == 2 and pair for text, pair in zip(texts, is_pair)):
        raise DataError("X holds single texts and pairs, or more than two texts in a row", fix="Give one kind of row")
    check_texts(texts)
    if any(is_pair):
        return Rows([str(text) for text, _ in texts], [str(pair) for _, pair in texts])
    return Rows([str(text) for text in texts])


@lru_cache(maxsize=2)
def backbone_named(name: str, pooling: Any, device: str, dtype: str) -> Backbone:
    """The backbone that all estimators of this process with these settings share."""
    return load_backbone(name, pooling=pooling, device=device, dtype=dtype)


class AdapterEstimator(BaseEstimator, ABC):  # type: ignore[misc]
    """What classifier and regressor share.

    Args:
        backbone: a hub id, a folder, or ``minilm``.
        method: what is trained, such as ``Houlsby(size=64)`` or the name of a method with its usual settings.
        lr, epochs, batch_size, max_length, long, class_weights, patience, seed: as in ``Recipe``.
        validation_share: the part of the rows that chooses the best epoch and is not trained on.
        pooling, device, dtype: as in ``load_backbone``.

    Attributes:
        adapter_: the adapter, for a ``Store`` or a file.
        result_: what came of training.
    """

    kind: ClassVar[Kind]

    def __init__(
        self,
        backbone: str | Path = "minilm",
        *,
        method: Method | str = "houlsby",
        lr: float | None = None,
        epochs: int | None = None,
        batch_size: int = 32,
        max_length: int = 256,
        long: str = "truncate",
        class_weights: str | None = None,
        patience: int | None = None,
        seed: int = 0,
        validation_share: float = 0.1,
        pooling: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
    ) -> None:
        self.backbone = backbone
        self.method = method
        self.lr = lr
        self.epochs = epochs
        self.batch_size = batch_size
        self.max_length = max_length
        self.long = long
        self.class_weights = class_weights
        self.patience = patience
        self.seed = seed
        self.validation_share = validation_share
        self.pooling = pooling
        self.device = device
        self.dtype = dtype

    def fit(self: E, X: Any, y: Any) -> E:
        """Train an adapter on texts ``X`` with targets ``y``, both of length B; a new one each time.

        Raises:
            DataError: texts or targets cannot be used.
            RecipeError: a setting is out of range, or training diverged.
        """
        task, recipe = self.job(X, y)
        outcome = _AHEAD.get({}).get(self.key(task, recipe))
        outcome = train(self.backbone_, task, recipe) if outcome is None else outcome
        if isinstance(outcome, PolytaskError):
            raise outcome
        self.adapter_, self.result_ = outcome
        self.learn_targets(y)
        return self

    def job(self, X: Any, y: Any) -> tuple[Task, Recipe]:
        """The task and the recipe that ``fit`` trains."""
        texts, targets = texts_given(X), self.targets_of(y)
        rows = Rows(texts.texts, texts.pairs, targets)
        labels, metric = self.label_names(y), default_metric(self.kind)
        kept, held_out = hold_out(rows, self.kind, share=self.validation_share, seed=self.seed)
        own = rows.take(kept)
        return Task(NAME, self.kind, labels, metric, own, rows.take(held_out) if held_out else own), self.recipe()

    def recipe(self) -> Recipe:
        """The settings as a recipe."""
        if isinstance(self.method, str) and self.method not in METHODS:
            raise UnknownName("method", self.method, METHODS)
        method = METHODS[self.method]() if isinstance(self.method, str) else self.method
        own = ("lr", "epochs", "batch_size", "max_length", "long", "class_weights", "patience", "seed")
        return Recipe(method, **{name: getattr(self, name) for name in own})

    def key(self, task: Task, recipe: Recipe) -> Key:
        """Equal for equal training."""
        return (*self._place, task.digest, recipe.key)

    @property
    def _place(self) -> tuple[str, Any, str, str]:
        return (str(self.backbone), self.pooling, self.device, self.dtype)

    @property
    def backbone_(self) -> Backbone:
        """The backbone, shared by all estimators that name it."""
        return backbone_named(*self._place)

    def scores(self, X: Any) -> np.ndarray:
        """Calibrated probabilities ``[B, K]`` or values ``[B, 1]``."""
        check_is_fitted(self)
        rows, recipe = texts_given(X), self.adapter_.header.recipe
        outputs = max(len(self.adapter_.header.head.labels), 1)
        if not len(rows):
            return np.zeros((0, outputs))
        frozen = self.backbone_
        live = LoadedAdapter.from_adapter(frozen, self.adapter_)
        attached = Attached.of(frozen)
        if live.deltas:
            attached.add(NAME, live.deltas)
        cut = (min(int(recipe["max_length"]), frozen.max_length), str(recipe["long"]), None)
        encoded = encode(frozen.tokenizer, rows, *cut)
        try:
            found = scores_of(frozen, attached, {NAME: live}, encoded, [NAME] * len(rows))
        finally:
            if live.deltas:
                attached.remove(NAME)
        decided = [live.decision.of(score.tolist()) for score in found]
        return np.asarray([[own.score] if own.probs is None else own.probs for own in decided], dtype=np.float64)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.target_tags.required = True
        return tags

    @abstractmethod
    def targets_of(self, y: Any) -> Sequence[Any]:
        """Targets as tasks have them."""

    @abstractmethod
    def label_names(self, y: Any) -> tuple[str, ...]:
        """The names of the labels in the order of the head's outputs."""

    def learn_targets(self, y: Any) -> None:
        """Keep what is to be known of the targets."""


class AdapterClassifier(ClassifierMixin, AdapterEstimator):  # type: ignore[misc]
    """A classifier of texts, or of pairs of texts, by an adapter on a frozen transformer.

    ``y`` holds a class for each text, of any type that sorts; ``classes_`` are all of them in order.
    """

    kind = "classification"

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class of each text, ``[B]``."""
        likeliest = self.scores(X).argmax(axis=1)
        return np.asarray(self.classes_[likeliest])

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of each class in the order of ``classes_``, ``[B, K]``; rows sum to one."""
        probs = self.scores(X)
        return np.asarray(probs / probs.sum(axis=1, keepdims=True))

    def targets_of(self, y: Any) -> Sequence[int]:
        """The index of each row's class.

        Raises:
            DataError: there are fewer than two classes.
        """
        classes, indices = np.unique(_column(y), return_inverse=True)
        if len(classes) < 2:
            raise DataError(f"y has {len(classes)} class", fix="At least two are needed to learn from")
        return [int(index) for index in indices]

    def label_names(self, y: Any) -> tuple[str, ...]:
        """The classes as strings."""
        return tuple(str(label) for label in np.unique(_column(y)))

    def learn_targets(self, y: Any) -> None:
        """Keep the classes in the type that they were given in."""
        self.classes_ = np.unique(_column(y))


class AdapterRegressor(RegressorMixin, AdapterEstimator):  # type: ignore[misc]
    """A regressor on texts, or on pairs of texts, by an adapter on a frozen transformer; ``y`` holds numbers."""

    kind = "regression"

    def predict(self, X: Any) -> np.ndarray:
        """The value of each text, ``[B]``."""
        return np.asarray(self.scores(X)[:, 0])

    def targets_of(self, y: Any) -> Sequence[float]:
        """Each row's number.

        Raises:
            DataError: they are no numbers.
        """
        try:
            return [float(value) for value in _column(y)]
        except (TypeError, ValueError):
            raise DataError("y holds something that is not a number", fix="Use AdapterClassifier for classes") from None

    def label_names(self, y: Any) -> tuple[str, ...]:
        """None."""
        return ()


def _column(y: Any) -> np.ndarray:
    """``y`` as an array ``[B]``."""
    if y is None:
        raise DataError("requires y to be passed, but the target y is None", fix="Give a target for each text")
    column = np.asarray(y)
    if column.ndim != 1:
        raise DataError(f"y has {column.ndim} dimensions", fix="Give one target for each text")
    return column


_AHEAD: ContextVar[Mapping[Key, Outcome]] = ContextVar("polytask_trained_ahead")
"""What was trained before ``fit`` asks for it."""


@contextmanager
def trained_ahead(jobs: Sequence[tuple[AdapterEstimator, Task, Recipe]]) -> Iterator[None]:
    """Train the jobs of many estimators in fused passes; within the block ``fit`` takes its outcome from them."""
    of_backbone: dict[Key, dict[Key, tuple[AdapterEstimator, Task, Recipe]]] = {}
    for estimator, task, recipe in jobs:
        of_backbone.setdefault(estimator._place, {})[estimator.key(task, recipe)] = (estimator, task, recipe)
    outcomes: dict[Key, Outcome] = {}
    for alike in of_backbone.values():
        frozen = next(iter(alike.values()))[0].backbone_
        named = {str(number): (task, recipe) for number, (_, task, recipe) in enumerate(alike.values())}
        outcomes |= dict(zip(alike, train_many(frozen, named).values(), strict=True))
    token = _AHEAD.set(outcomes)
    try:
        yield
    finally:
        _AHEAD.reset(token)


class AdapterGridSearchCV(GridSearchCV):  # type: ignore[misc]
    """``GridSearchCV`` over an adapter estimator, all candidates on all splits trained in fused passes.

    Each is equal to being trained alone, so results are those of ``GridSearchCV``, in less time. It takes the same
    arguments; ``n_jobs`` gains nothing here. Splits that differ each time they are asked for (``shuffle`` without
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
        with trained_ahead(jobs):
            super().fit(X, y, **params)
        return self
