"""What an adapter's score stands beside: an answer that ignores the text, and a linear probe of the frozen backbone."""

from __future__ import annotations

import random
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch

from polytask.adapters.module import encode_batch
from polytask.backbones.backbone import Backbone
from polytask.data.batches import budget_batches, collate
from polytask.data.encoding import encode
from polytask.data.task import Kind, Rows, Target
from polytask.evaluation.metrics import indicators
from polytask.reporting.answered import Answered, Progress, count_labels, no_progress
from polytask.reporting.wording import named

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

MAX_PROBE_ROWS = 4000
"""The most training rows that a probe is fitted on."""
STRENGTH = 0.1
"""Scikit-learn's ``C`` of the probe, whose inputs are standardized."""
BATCH_TOKENS = 4096
NO_TRAINING_ROWS = "no linear probe is shown, because no training rows were given"


@dataclass(frozen=True)
class Baseline:
    """Predictions of something simpler than the adapter.

    Attributes:
        name: what it is, in a few words.
        predictions: in the form of targets, ``[N]``.
        about: how it was made.
    """

    name: str
    predictions: Sequence[Target]
    about: str


def baselines(answered: Answered, seed: int = 0) -> tuple[list[Baseline], list[str]]:
    """The baselines that fit the kind of task, and why others are missing."""
    if answered.kind == "span":
        return [], []
    constant = constant_baseline(answered)
    if answered.train is None:
        return [constant], [NO_TRAINING_ROWS]
    return [constant, probe_baseline(answered, answered.train, seed)], []


def constant_baseline(answered: Answered) -> Baseline:
    """The same answer for every row: the majority class, the labels that most rows have, or the mean number."""
    if answered.kind == "regression":
        return _mean_baseline(answered)
    counts = answered.label_counts
    own = count_labels(answered.targets, len(answered.labels)) if counts is None else list(counts.values())
    most = max(range(len(own)), key=own.__getitem__)
    source = "these rows" if counts is None else "the training rows"
    about = f"{named(answered.labels[most])} for every row, the most frequent label of {source}"
    if answered.kind == "classification":
        return Baseline("majority class", [most] * len(answered), about)
    return Baseline("commonest label", [(most,)] * len(answered), about)


def _mean_baseline(answered: Answered) -> Baseline:
    known = None if answered.train is None else answered.train.targets
    mean = fmean(answered.targets if known is None else known)
    about = f"{mean:.3g} for every row, the mean of {'these' if known is None else 'the training'} rows"
    return Baseline("mean", [mean] * len(answered), about)


def probe_baseline(answered: Answered, train: Rows, seed: int = 0) -> Baseline:
    """A linear model on the backbone's own vectors, fitted to training rows."""
    chosen = train
    if len(train) > MAX_PROBE_ROWS:
        chosen = train.take(sorted(random.Random(seed).sample(range(len(train)), MAX_PROBE_ROWS)))
    backbone, limit = answered.model.backbone, answered.max_length
    known = pooled_vectors(backbone, chosen, limit, answered.progress)
    asked = pooled_vectors(backbone, answered.rows, limit, answered.progress)
    answered.progress("fitting the linear probe", 0, 1)
    predictions = fit_predict(answered.kind, len(answered.labels), known, chosen.targets or (), asked)
    answered.progress("fitting the linear probe", 1, 1)
    drawn = f"{len(chosen):,} " + (f"of {len(train):,} " if len(chosen) < len(train) else "")
    model = "ridge regression" if answered.kind == "regression" else "logistic regression"
    return Baseline("linear probe", predictions, f"{model} on the frozen backbone’s vectors of {drawn}training rows")


@torch.inference_mode()
def pooled_vectors(backbone: Backbone, rows: Rows, max_length: int, progress: Progress = no_progress) -> Array:
    """One vector of the backbone without any adapter for each row, ``[N, D]``; longer texts are truncated."""
    import numpy as np

    encoded = encode(backbone.tokenizer, rows, max_length)
    vectors = np.empty((len(rows), backbone.hidden))
    done = 0
    for batch in budget_batches(encoded.lengths, BATCH_TOKENS):
        progress("reading vectors of the backbone", done, len(rows))
        collated = collate([(encoded, batch)], backbone.tokenizer.pad_token_id or 0, backbone.device)
        with backbone.one_pass(training=False):
            _, pooled = encode_batch(backbone, collated)
        vectors[batch] = pooled.double().cpu().numpy()
        done += len(batch)
    progress("reading vectors of the backbone", len(rows), len(rows))
    return vectors


def fit_predict(kind: Kind, num_labels: int, known: Array, targets: Sequence[Target], asked: Array) -> list[Target]:
    """Fit a linear model to vectors ``[N, D]`` with targets ``[N]``, and predict the targets of ``asked``."""
    import numpy as np
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(known)
    known, asked = scaler.transform(known), scaler.transform(asked)
    if kind == "classification":
        return _classes(known, targets, asked).tolist()  # type: ignore[no-any-return]
    if kind == "regression":
        from sklearn.linear_model import RidgeCV

        return RidgeCV(np.logspace(-1, 5, 13)).fit(known, targets).predict(asked).tolist()  # type: ignore[no-any-return]
    held = indicators(targets, num_labels)
    columns = np.stack([_classes(known, held[:, label], asked) for label in range(num_labels)], axis=1)
    return [tuple(np.flatnonzero(row).tolist()) for row in columns]


def _classes(known: Array, targets: Any, asked: Array) -> Any:
    """The classes that logistic regression predicts, ``[N]``; the only one if there is one."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    if len(set(np.asarray(targets).tolist())) == 1:
        return np.full(len(asked), targets[0])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The number of unique classes")  # many labels with few rows are fine
        return LogisticRegression(C=STRENGTH, max_iter=500).fit(known, targets).predict(asked)
