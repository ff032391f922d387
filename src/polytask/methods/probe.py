"""A linear probe: nothing but a head on the frozen, pooled vector (Alain and Bengio, arXiv:1610.01644).

It has no deltas and is not trained by gradients: scikit-learn fits it (``polytask.evaluation.linear_probe``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from polytask.methods.delta import Method


@dataclass(frozen=True)
class Probe(Method):
    """Logistic regression, or ridge regression, on the vector that the frozen backbone gives a text."""

    name: ClassVar = "probe"
