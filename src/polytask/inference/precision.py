"""Warns where a detector of "none of these" rejects nearly all texts because the backbone computes in other numbers.

A detector keeps the vectors and the threshold of the precision that it was fitted in. In another precision the vectors
of a pretrained backbone hardly move; those of a random one can all move past the threshold.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence

from polytask.adapters.module import LoadedAdapter
from polytask.errors import PolytaskWarning
from polytask.inference.prediction import Prediction

MIN_TEXTS, NEARLY_ALL = 20, 0.9
"""Fewer texts, or a smaller share of them with none of the labels, say nothing about the precision."""


def warn_of_other_precision(
    adapters: Mapping[str, LoadedAdapter], names: Sequence[str], answers: Sequence[Prediction], dtype: str
) -> None:
    """Warn if nearly all texts of an adapter are none of these and its detector was fitted in another precision.

    Args:
        adapters: by name.
        names: the adapter of each answer.
        answers: the answers.
        dtype: the precision of the backbone, such as ``float32``.
    """
    is_none: dict[str, list[bool]] = defaultdict(list)
    for name, answer in zip(names, answers, strict=True):
        is_none[name].append(answer.none)
    for name, own in is_none.items():
        fitted = adapters[name].trained_dtype
        if len(own) >= MIN_TEXTS and sum(own) >= NEARLY_ALL * len(own) and fitted not in (None, dtype):
            warnings.warn(
                f"{sum(own)} of {len(own)} texts are none of these to {name}, whose detector was fitted in {fitted} "
                f"and answers in {dtype}. Answer in {fitted} (--dtype), or train it in {dtype}",
                PolytaskWarning,
                stacklevel=3,
            )
