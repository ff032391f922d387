"""scikit-learn estimators: ``AdapterClassifier`` and ``AdapterRegressor``.

An estimator holds only the name of its backbone, so that cloning and pickling are cheap. All estimators of a process
with the same settings share one loaded backbone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_is_fitted

from polytask.adapters.attach import Attached
from polytask.adapters.module import LoadedAdapter
from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.data.encoding import encode
from polytask.data.labels import is_empty
from polytask.data.metric_names import default_metric
from polytask.data.multilabel import indicator, label_sets
from polytask.data.splits import hold_out
from polytask.data.task import Kind, Rows, Task
from polytask.errors import BackboneError, DataError, PolytaskError, UnknownName
from polytask.evaluation.decision import Decided
from polytask.inference.inputs import check_texts, texts_in
from polytask.inference.scoring import scores_of
from polytask.methods import METHODS, Method
from polytask.training.fused import Outcome
from polytask.training.loop import train
from polytask.training.recipe import Recipe

TASK_NAME = "sklearn"
"""The task name of an estimator's adapter; ``estimator.adapter_.renamed("spam")`` changes it."""
Key = tuple[object, ...]
E = TypeVar("E", bound="AdapterEstimator")


def rows_of(X: Any) -> Rows:
    """Convert the input of an estimator to rows: texts, or pairs of texts.

    Args:
        X: a sequence of texts or of pairs: a list, an array of strings ``[B]`` or of pairs ``[B, 2]``, a Series; or a
            table with one column of texts, or with columns of usual names such as ``text``.

    Raises:
        DataError: ``X`` is a single text, or has an item that is not a text.
    """
    if isinstance(X, str):
        raise DataError("X is one text, not a list of texts", fix="Put it in brackets: predict([text])")
    _check_holds_texts(X)
    texts: list[Any] = [text[0] if isinstance(text, tuple) and len(text) == 1 else text for text in texts_in(X)]
    is_pair = [isinstance(text, tuple) for text in texts]
    if any(is_pair) and not all(len(text) == 2 and pair for text, pair in zip(texts, is_pair)):
        raise DataError("X holds single texts and pairs, or more than two texts in a row", fix="Give one kind of row")
    check_texts(texts)
    if any(is_pair):
        return Rows([str(text) for text, _ in texts], [str(pair) for _, pair in texts])
    return Rows([str(text) for text in texts])


def _check_holds_texts(X: Any) -> None:
    """Refuse numbers, such as the features of a vectorizer before this step.

    Raises:
        DataError: ``X`` is a sparse matrix, or an array of numbers.
    """
    is_numeric = getattr(getattr(X, "dtype", None), "kind", "O") in "biufc"
    if issparse(X) or (is_numeric and getattr(X, "ndim", 0) > 0):
        fix = "An adapter reads the texts themselves: leave out the vectorizer or encoder before it"
        raise DataError(f"X holds numbers ({type(X).__name__}), not texts", fix=fix)


@lru_cache(maxsize=2)
def shared_backbone(name: str, pooling: Any, device: str, dtype: str) -> Backbone:
    """The backbone, shared by all estimators of this process with these settings."""
    return load_backbone(name, pooling=pooling, device=device, dtype=dtype)


class AdapterEstimator(BaseEstimator, ABC):  # type: ignore[misc]
    """Base class of the classifier and the regressor.

    Args:
        backbone: a hub id, a folder, or ``minilm``.
        method: a method such as ``Houlsby(size=64)``, or its name for the default settings.
        lr, epochs, batch_size, max_length, long, class_weights, patience, seed: as in ``Recipe``.
        validation_share: the fraction of the rows that is held out to choose the best epoch.
        pooling, device, dtype: as in ``load_backbone``.

    Attributes:
        adapter_: the trained adapter, for a ``Store`` or a file.
        result_: the result of the training.
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
        """Train a new adapter on texts ``X`` with targets ``y``, both of length B.

        Raises:
            DataError: texts or targets cannot be used.
            RecipeError: a setting is out of range, or training diverged.
        """
        task, recipe = self.job(X, y)
        outcome = PRETRAINED.get({}).get(self.key(task, recipe))
        outcome = train(self.backbone_, task, recipe) if outcome is None else outcome
        if isinstance(outcome, PolytaskError):
            raise outcome
        self.adapter_, self.result_ = outcome
        self.learn_targets(y)
        return self

    def job(self, X: Any, y: Any) -> tuple[Task, Recipe]:
        """The task and the recipe for the training job of ``fit``."""
        texts, targets = rows_of(X), self.targets_of(y)
        rows = Rows(texts.texts, texts.pairs, targets)
        kind, labels = self.kind_of(y), self.label_names(y)
        kept, held_out = hold_out(rows, kind, share=self.validation_share, seed=self.seed)
        own = rows.take(kept)
        validation = rows.take(held_out) if held_out else own
        return Task(TASK_NAME, kind, labels, default_metric(kind), own, validation), self.recipe()

    def recipe(self) -> Recipe:
        """The settings as a recipe."""
        if isinstance(self.method, str) and self.method not in METHODS:
            raise UnknownName("method", self.method, METHODS)
        method = METHODS[self.method]() if isinstance(self.method, str) else self.method
        own = ("lr", "epochs", "batch_size", "max_length", "long", "class_weights", "patience", "seed")
        return Recipe(method, **{name: getattr(self, name) for name in own})

    def key(self, task: Task, recipe: Recipe) -> Key:
        """A key that is equal for equal training jobs."""
        return (*self._backbone_key, task.digest, recipe.key)

    @property
    def _backbone_key(self) -> tuple[str, Any, str, str]:
        if isinstance(self.backbone, Backbone):
            fix = f"Give its name: {type(self).__name__}({self.backbone.name!r})"
            raise BackboneError(f"an estimator takes the name of a backbone, so that it can be cloned. {fix}")
        return (str(self.backbone), self.pooling, self.device, self.dtype)

    @property
    def backbone_(self) -> Backbone:
        """The loaded backbone."""
        return shared_backbone(*self._backbone_key)

    def scores(self, X: Any) -> np.ndarray:
        """Calibrated probabilities ``[B, K]`` or values ``[B, 1]``."""
        outputs = max(len(self.label_names_), 1)
        found = [[own.score] if own.probs is None else own.probs for own in self.decided(X)]
        return np.asarray(found, dtype=np.float64).reshape(-1, outputs)

    @property
    def label_names_(self) -> tuple[str, ...]:
        """The label names of the adapter."""
        check_is_fitted(self)
        return self.adapter_.header.head.labels

    def decided(self, X: Any) -> list[Decided]:
        """The adapter's decision about each text."""
        check_is_fitted(self)
        rows, recipe = rows_of(X), self.adapter_.header.recipe
        if not len(rows):
            return []
        frozen = self.backbone_
        live = LoadedAdapter.from_adapter(frozen, self.adapter_)
        attached = Attached.of(frozen)
        if live.deltas:
            attached.add(TASK_NAME, live.deltas)
        cut = (min(int(recipe["max_length"]), frozen.max_length), str(recipe["long"]), None)
        encoded = encode(frozen.tokenizer, rows, *cut)
        try:
            found = scores_of(frozen, attached, {TASK_NAME: live}, encoded, [TASK_NAME] * len(rows))
        finally:
            if live.deltas:
                attached.remove(TASK_NAME)
        return [live.decision.of(score.tolist()) for score in found]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.target_tags.required = True
        return tags

    def kind_of(self, y: Any) -> Kind:
        """The kind of task for these targets."""
        return self.kind

    @abstractmethod
    def targets_of(self, y: Any) -> Sequence[Any]:
        """Convert targets to those of a task."""

    @abstractmethod
    def label_names(self, y: Any) -> tuple[str, ...]:
        """The label names in the order of the head's outputs."""

    def learn_targets(self, y: Any) -> None:
        """Store attributes learned from the targets."""


class AdapterClassifier(ClassifierMixin, AdapterEstimator):  # type: ignore[misc]
    """A classifier for texts, or pairs of texts: an adapter on a frozen transformer.

    ``y`` holds a class for each text, of any sortable type; ``classes_`` has the sorted classes. For several
    labels per text (``multilabel_`` is True), ``y`` is an indicator matrix ``[B, K]`` of zeros and ones, or a list of
    labels for each text. ``classes_`` of a matrix has the numbers of its columns, or the column names of a DataFrame.
    Scikit-learn's own splitters and metrics accept matrices only.
    """

    kind = "classification"

    def predict(self, X: Any) -> np.ndarray:
        """The most likely class of each text, ``[B]``; for multi-label targets the indicator matrix ``[B, K]``."""
        check_is_fitted(self)
        if self.multilabel_:
            return indicator([own.labels or () for own in self.decided(X)], len(self.classes_))
        return np.asarray(self.classes_[self.scores(X).argmax(axis=1)])

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of each class, ``[B, K]``. Rows sum to one, except for multi-label targets."""
        probs = self.scores(X)
        return probs if self.multilabel_ else np.asarray(probs / probs.sum(axis=1, keepdims=True))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The accuracy; for multi-label targets the share of texts with all labels right, as in scikit-learn."""
        check_is_fitted(self)
        own = label_sets(y) if self.multilabel_ else None
        return float(super().score(X, y if own is None else own.in_order_of(self.classes_), sample_weight))

    def kind_of(self, y: Any) -> Kind:
        """``multilabel`` for an indicator matrix or lists of labels."""
        return "classification" if label_sets(y) is None else "multilabel"

    def targets_of(self, y: Any) -> Sequence[Any]:
        """The index of each row's class, or the indices of its labels.

        Raises:
            DataError: there are fewer than two classes, or ``y`` holds numbers with decimals.
        """
        if (several := label_sets(y)) is not None:
            return several.rows
        if type_of_target(_column(y)) == "continuous":
            raise DataError("y holds numbers with decimals, not classes", fix="Use AdapterRegressor for numbers")
        classes, indices = np.unique(_column(y), return_inverse=True)
        if len(classes) < 2:
            raise DataError(f"y has {len(classes)} class", fix="A classifier needs at least two")
        return [int(index) for index in indices]

    def label_names(self, y: Any) -> tuple[str, ...]:
        """The classes as strings."""
        return tuple(str(label) for label in _classes(y))

    def learn_targets(self, y: Any) -> None:
        """Store the classes in their original type, and whether texts have several labels."""
        self.classes_, self.multilabel_ = _classes(y), label_sets(y) is not None

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


def _classes(y: Any) -> np.ndarray:
    several = label_sets(y)
    return np.unique(_column(y)) if several is None else several.classes


class AdapterRegressor(RegressorMixin, AdapterEstimator):  # type: ignore[misc]
    """A regressor for texts, or pairs of texts: an adapter on a frozen transformer. ``y`` holds numbers."""

    kind = "regression"

    def predict(self, X: Any) -> np.ndarray:
        """The value of each text, ``[B]``."""
        return np.asarray(self.scores(X)[:, 0])

    def targets_of(self, y: Any) -> Sequence[float]:
        """Each row's target as a float.

        Raises:
            DataError: a target is not a number.
        """
        try:
            return [float(value) for value in _column(y)]
        except (TypeError, ValueError):
            raise DataError("y holds something that is not a number", fix="Use AdapterClassifier for classes") from None

    def label_names(self, y: Any) -> tuple[str, ...]:
        """Empty: a regression has no labels."""
        return ()


def _column(y: Any) -> np.ndarray:
    """``y`` as an array ``[B]``."""
    if y is None:
        raise DataError("requires y to be passed, but the target y is None", fix="Give a target for each text")
    column = np.asarray(y.toarray() if issparse(y) else y)
    if column.ndim != 1:
        raise DataError(f"y has {column.ndim} dimensions", fix="Give one target for each text, such as y.ravel()")
    missing = next((row for row, target in enumerate(y, 1) if is_empty(target) and not isinstance(target, str)), None)
    if missing is not None:
        raise DataError(f"target {missing} of {len(column)} is missing", fix="Leave such rows out")
    return column


PRETRAINED: ContextVar[Mapping[Key, Outcome]] = ContextVar("polytask_trained_ahead")
"""Outcomes of jobs that were trained in advance; ``fit`` uses them instead of training."""
