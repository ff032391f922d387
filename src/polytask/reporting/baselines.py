"""What an adapter's score stands beside: an answer that ignores the text, and a linear probe of the frozen backbone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from polytask.backbones.backbone import Backbone
from polytask.data.encoding import encode
from polytask.data.task import Kind, Rows, Target
from polytask.evaluation.linear_probe import fit_probe
from polytask.inference.vectors import vectors_of
from polytask.reporting.answered import CHUNK_ROWS, Answered, Progress, count_labels, no_progress
from polytask.reporting.wording import named

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

MAX_PROBE_ROWS = 4000
"""The most training rows that a probe is fitted on."""
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


def pooled_vectors(backbone: Backbone, rows: Rows, max_length: int, progress: Progress = no_progress) -> Array:
    """One vector of the backbone without any adapter for each row, ``[N, D]``; longer texts are truncated."""
    import numpy as np

    parts = []
    for start in range(0, len(rows), CHUNK_ROWS):
        progress("reading vectors of the backbone", start, len(rows))
        chunk = rows.take(range(start, min(start + CHUNK_ROWS, len(rows))))
        parts.append(vectors_of(backbone, encode(backbone.tokenizer, chunk, max_length)).numpy())
    progress("reading vectors of the backbone", len(rows), len(rows))
    return np.concatenate(parts).astype(np.float64)


def fit_predict(kind: Kind, num_labels: int, known: Array, targets: Sequence[Target], asked: Array) -> list[Target]:
    """Fit a head to vectors ``[N, D]`` with targets ``[N]`` as ``train`` does; its predictions for ``asked``."""
    import numpy as np

    probe = fit_probe(kind, known, targets, max(num_labels, 1))
    outputs = asked @ probe.weight.T + probe.bias
    if kind == "classification":
        return outputs.argmax(axis=1).tolist()  # type: ignore[no-any-return]
    if kind == "regression":
        return outputs[:, 0].tolist()  # type: ignore[no-any-return]
    return [tuple(np.flatnonzero(row >= 0).tolist()) for row in outputs]
