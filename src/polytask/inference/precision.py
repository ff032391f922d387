"""Compares the precision of the backbone with the one in which thresholds and a detector were fitted.

A detector of "none of these" keeps the vectors and the threshold of the precision that it was fitted in. In another
precision the vectors of a pretrained backbone hardly move; those of a random one can all move past the threshold.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence

from polytask.adapters.header import Header
from polytask.adapters.module import LoadedAdapter
from polytask.errors import PolytaskWarning
from polytask.inference.prediction import Prediction

MIN_TEXTS, NEARLY_ALL = 20, 0.9
"""Fewer texts, or a smaller share of them with none of the labels, say nothing about the precision."""


def fitted_elsewhere(header: Header, precision: str) -> str | None:
    """A sentence on an adapter whose thresholds or detector were fitted in another precision; None if none were.

    Args:
        header: the adapter's header.
        precision: that of the backbone, such as ``float32``.
    """
    environment = header.result.get("environment")
    fitted = environment.get("dtype") if isinstance(environment, Mapping) else None
    fields = {"thresholds": header.thresholds, "detector of none of these": header.none}
    own = " and ".join(name for name, value in fields.items() if value is not None)
    if not own or fitted in (None, precision):
        return None
    return f"its {own} were fitted in {fitted}, and it answers in {precision}. Serve it in {fitted} (--dtype)"


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
