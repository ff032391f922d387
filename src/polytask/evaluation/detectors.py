"""Out-of-distribution detectors: each computes the familiarity of a text, which is low if no training text is similar.

Familiarity is computed from the pooled vector and the logits, which the head computes anyway. The detectors are:

* the largest probability (Hendrycks and Gimpel, arXiv:1610.02136)
* energy (Liu et al., arXiv:2010.03759)
* the Mahalanobis distance to the nearest class mean, with a shared covariance (Lee et al., arXiv:1807.03888)
* the cosine to the nearest class mean
* the cosines to the nearest training texts (after Sun et al., arXiv:2204.06507)
* a linear classifier, if there are example texts with none of the labels
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

DIRECTIONS = 64
"""The number of directions in which the shared covariance is stored; in all others its mean is used."""
EXAMPLES, NEIGHBOURS = 256, 5
"""The number of training texts that ``Neighbours`` keeps, and how many of the nearest count."""
Tensors = Mapping[str, Tensor]


class Detector(ABC):
    """Computes the familiarity of texts; a larger number is closer to the training rows."""

    name: ClassVar[str]

    @classmethod
    def shapes(cls, num_labels: int, hidden: int) -> dict[str, tuple[int, ...]]:
        """The shapes of the detector's tensors, by name."""
        return {}

    @classmethod
    def fit(cls, vectors: Tensor, targets: Tensor, num_labels: int, unfamiliar: Tensor | None) -> dict[str, Tensor]:
        """Fit the detector; return its tensors.

        Args:
            vectors: pooled vectors of training texts, ``[N, D]`` in fp64.
            targets: their labels, ``[N]``.
            num_labels: ``K``.
            unfamiliar: vectors of example texts with none of the labels, ``[M, D]``; None if there are none.
        """
        return {}

    @classmethod
    @abstractmethod
    def familiarity(cls, vectors: Tensor, logits: Tensor, tensors: Tensors) -> Tensor:
        """The familiarity ``[B]`` of texts with vectors ``[B, D]`` and logits ``[B, K]``."""


class Probability(Detector):
    """The probability of the likeliest label."""

    name = "probability"

    @classmethod
    def familiarity(cls, vectors: Tensor, logits: Tensor, tensors: Tensors) -> Tensor:
        """``max softmax``."""
        return logits.softmax(dim=-1).amax(dim=-1)


class Energy(Detector):
    """The negative energy of the logits."""

    name = "energy"

    @classmethod
    def familiarity(cls, vectors: Tensor, logits: Tensor, tensors: Tensors) -> Tensor:
        """``log sum exp``."""
        return logits.logsumexp(dim=-1)


class Mahalanobis(Detector):
    """The squared Mahalanobis distance to the nearest class mean; all classes share one covariance."""

    name = "mahalanobis"

    @classmethod
    def shapes(cls, num_labels: int, hidden: int) -> dict[str, tuple[int, ...]]:
        """The class means, the directions of largest covariance, and the scale in all other directions."""
        return {"means": (num_labels, hidden), "directions": (min(DIRECTIONS, hidden), hidden), "scale": (1,)}

    @classmethod
    def fit(cls, vectors: Tensor, targets: Tensor, num_labels: int, unfamiliar: Tensor | None) -> dict[str, Tensor]:
        """Shrink the covariance (Ledoit and Wolf) and keep its largest directions exactly."""
        from sklearn.covariance import LedoitWolf

        means = class_means(vectors, targets, num_labels)
        spread = LedoitWolf(assume_centered=True).fit((vectors - means[targets]).numpy()).covariance_
        values, directions = torch.linalg.eigh(torch.from_numpy(spread))
        values, directions = values.flip(0).clamp(min=1e-12), directions.flip(1).T
        kept = min(DIRECTIONS, len(values))
        rest = values[kept:].mean() if len(values) > kept else values[-1]
        weights = (1 / rest - 1 / values[:kept]).clamp(min=0).sqrt()
        return {"means": means, "directions": directions[:kept] * weights[:, None], "scale": rest.rsqrt()[None]}

    @classmethod
    def familiarity(cls, vectors: Tensor, logits: Tensor, tensors: Tensors) -> Tensor:
        """``-min_k (x - m_k)ᵀ C⁻¹ (x - m_k)``, with ``C⁻¹ = scale² I - directionsᵀ directions``."""
        x, means, directions = vectors.double(), tensors["means"].double(), tensors["directions"].double()
        scale = float(tensors["scale"])
        near = torch.cdist(x @ directions.T, means @ directions.T) ** 2
        return -(scale**2 * torch.cdist(x, means) ** 2 - near).amin(dim=-1)


class NearestMean(Detector):
    """The cosine between a vector and the nearest class mean, both centred at the mean of the class means."""

    name = "nearest_mean"

    @classmethod
    def shapes(cls, num_labels: int, hidden: int) -> dict[str, tuple[int, ...]]:
        """The centre, and the directions of the class means."""
        return {"centre": (hidden,), "means": (num_labels, hidden)}

    @classmethod
    def fit(cls, vectors: Tensor, targets: Tensor, num_labels: int, unfamiliar: Tensor | None) -> dict[str, Tensor]:
        """Average the training vectors."""
        means = class_means(vectors, targets, num_labels)
        centre = means.mean(dim=0)
        return {"centre": centre, "means": F.normalize(means - centre, dim=-1)}

    @classmethod
    def familiarity(cls, vectors: Tensor, logits: Tensor, tensors: Tensors) -> Tensor:
        """``max_k cos(x - c, m_k - c)``."""
        x = F.normalize(vectors - tensors["centre"], dim=-1)
        return (x @ tensors["means"].T).amax(dim=-1)


class Neighbours(Detector):
    """The mean cosine between a vector and the nearest of some training vectors, all centred at their mean."""

    name = "knn"

    @classmethod
    def shapes(cls, num_labels: int, hidden: int) -> dict[str, tuple[int, ...]]:
        """The centre, and the directions of the training vectors; zero where there are fewer."""
        return {"centre": (hidden,), "examples": (EXAMPLES, hidden)}

    @classmethod
    def fit(cls, vectors: Tensor, targets: Tensor, num_labels: int, unfamiliar: Tensor | None) -> dict[str, Tensor]:
        """Keep evenly spaced training vectors."""
        centre = vectors.mean(dim=0)
        kept = vectors[:: -(-len(vectors) // EXAMPLES)]
        examples = vectors.new_zeros(EXAMPLES, vectors.shape[1])
        examples[: len(kept)] = F.normalize(kept - centre, dim=-1)
        return {"centre": centre, "examples": examples}

    @classmethod
    def familiarity(cls, vectors: Tensor, logits: Tensor, tensors: Tensors) -> Tensor:
        """The mean of the largest ``NEIGHBOURS`` of ``cos(x - c, e - c)``."""
        x = F.normalize(vectors - tensors["centre"], dim=-1)
        return (x @ tensors["examples"].T).topk(NEIGHBOURS, dim=-1).values.mean(dim=-1)


class Linear(Detector):
    """A logistic regression that separates training texts from examples with none of the labels."""

    name = "linear"

    @classmethod
    def shapes(cls, num_labels: int, hidden: int) -> dict[str, tuple[int, ...]]:
        """One direction."""
        return {"weight": (hidden,)}

    @classmethod
    def fit(cls, vectors: Tensor, targets: Tensor, num_labels: int, unfamiliar: Tensor | None) -> dict[str, Tensor]:
        """Fit a probe with two classes of equal weight."""
        from polytask.evaluation.linear_probe import fit_probe

        assert unfamiliar is not None, "a linear detector needs examples"
        both = torch.cat([unfamiliar, vectors])
        labels = [0] * len(unfamiliar) + [1] * len(vectors)
        fit = fit_probe("classification", both.numpy(), labels, 2, class_weights="balanced")
        return {"weight": torch.from_numpy(fit.weight[1] - fit.weight[0])}

    @classmethod
    def familiarity(cls, vectors: Tensor, logits: Tensor, tensors: Tensors) -> Tensor:
        """``w · x``."""
        return vectors @ tensors["weight"]


DETECTORS: dict[str, type[Detector]] = {
    own.name: own for own in (Probability, Energy, Mahalanobis, NearestMean, Neighbours, Linear)
}
DEFAULT = "knn"
"""The best mean rank on classes left out of real tasks and on texts from elsewhere (``benchmarks/out_of_scope.py``)."""


def class_means(vectors: Tensor, targets: Tensor, num_labels: int) -> Tensor:
    """The mean vector of each class, ``[K, D]``; a class without rows has the mean of all vectors."""
    means = vectors.mean(dim=0).repeat(num_labels, 1)
    for label in targets.unique().tolist():
        means[label] = vectors[targets == label].mean(dim=0)
    return means
