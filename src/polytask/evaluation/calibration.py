"""Calibration: maps a head's scores to reliable probabilities. The map is fitted on the validation rows.

It is applied in double precision to a row's scores, after the scores of the row's windows were averaged. Labels are
decided on the uncalibrated scores, so calibration never changes a label.

* ``temperature`` (classification): ``softmax(log p / T)``, Guo et al., arXiv:1706.04599.
* ``platt`` (multi-label): ``sigmoid(slope · logit p + offset)`` of each label, Platt 1999. A probability of 0.5 becomes
  ``sigmoid(offset)``; a label is still given if the head's own probability is at least 0.5.
* ``conformal`` (regression): an interval ``score ± radius`` that contains the truth for a share ``level`` of new
  rows, by split conformal prediction, Lei et al., arXiv:1604.04173.

``polytask.evaluation.calibration_fit`` fits it, ``polytask.evaluation.reliability`` measures it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from polytask.data.task import Kind
from polytask.errors import AdapterError

MOST_VALUE = 1e30
_NEAREST_ONE = 1 - 2.0**-24
"""The largest probability below 1 in fp32, in which heads answer."""


@dataclass(frozen=True)
class Calibration(ABC):
    """A fitted map; ``rows`` is how many validation rows it was fitted on."""

    kind: ClassVar[str]
    of: ClassVar[Kind]
    rows: int

    @abstractmethod
    def probabilities(self, scores: Sequence[float]) -> list[float]:
        """Calibrate a row's scores ``[K]``."""

    def affine(self, num_outputs: int) -> tuple[list[float], list[float]]:
        """The factor and offset of each of the head's outputs that make the head itself calibrated."""
        return [1.0] * num_outputs, [0.0] * num_outputs

    def cuts(self, num_labels: int) -> list[float]:
        """The calibrated probability of each label of a multi-label task that corresponds to 0.5."""
        return [0.5] * num_labels

    @abstractmethod
    def check(self, num_labels: int) -> str | None:
        """What is wrong with the values, given the number of labels; None if nothing is."""

    def to_json(self) -> dict[str, Any]:
        """The header's field ``calibration``: ``kind``, the values and ``rows``."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {"kind": self.kind, **{k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}}


@dataclass(frozen=True)
class Temperature(Calibration):
    """One temperature for all labels; above 1 it lowers the head's confidence."""

    kind = "temperature"
    of = "classification"
    temperature: float

    def probabilities(self, scores: Sequence[float]) -> list[float]:
        """``softmax(log p / T)``, which is ``p^(1/T)`` scaled to sum to one."""
        powers = [p ** (1 / self.temperature) for p in scores]
        total = math.fsum(powers)
        return [power / total for power in powers]

    def affine(self, num_outputs: int) -> tuple[list[float], list[float]]:
        """``1 / T`` as the factors, and no offsets."""
        return [1 / self.temperature] * num_outputs, [0.0] * num_outputs

    def check(self, num_labels: int) -> str | None:
        """The temperature must be between 0.01 and 100; below that ``p^(1/T)`` of the likeliest label could be 0."""
        sound = _is_number(self.temperature) and 0.01 <= self.temperature <= 100
        return None if sound else f"the temperature is {self.temperature!r}; it must be between 0.01 and 100"


@dataclass(frozen=True)
class Platt(Calibration):
    """A slope and an offset for each label; 1 and 0 leave a label's probability as it is."""

    kind = "platt"
    of = "multilabel"
    slopes: tuple[float, ...]
    offsets: tuple[float, ...]

    def probabilities(self, scores: Sequence[float]) -> list[float]:
        """``sigmoid(slope · logit p + offset)`` of each label."""
        maps = zip(scores, self.slopes, self.offsets, strict=True)
        return [p if (a, b) == (1, 0) else sigmoid(a * logit(p) + b) for p, a, b in maps]

    def affine(self, num_outputs: int) -> tuple[list[float], list[float]]:
        """The slopes and the offsets."""
        return list(self.slopes), list(self.offsets)

    def cuts(self, num_labels: int) -> list[float]:
        """``sigmoid(offset)``."""
        return [sigmoid(offset) for offset in self.offsets]

    def check(self, num_labels: int) -> str | None:
        """There must be a positive slope and an offset for each label."""
        if not len(self.slopes) == len(self.offsets) == num_labels:
            return f"there are {len(self.slopes)} slopes and {len(self.offsets)} offsets for {num_labels} labels"
        if not all(map(_is_number, (*self.slopes, *self.offsets))) or not all(slope > 0 for slope in self.slopes):
            return "a slope is not a positive number, or an offset is not a number"
        return None


@dataclass(frozen=True)
class Conformal(Calibration):
    """An interval around a number: a share ``level`` of similar new rows lies within ``radius`` of it."""

    kind = "conformal"
    of = "regression"
    level: float
    radius: float

    def probabilities(self, scores: Sequence[float]) -> list[float]:
        """The number itself."""
        return list(scores)

    def interval(self, score: float) -> tuple[float, float]:
        """Around a number."""
        return score - self.radius, score + self.radius

    def check(self, num_labels: int) -> str | None:
        """The level must be a share and the radius a distance."""
        sound = _is_number(self.level) and 0 < self.level < 1 and _is_number(self.radius) and self.radius >= 0
        return None if sound else f"level {self.level!r} is not a share, or radius {self.radius!r} is not a distance"


CALIBRATIONS: Mapping[str, type[Calibration]] = {of.kind: of for of in (Temperature, Platt, Conformal)}


def calibration_from_json(given: Mapping[str, Any], kind: Kind, num_labels: int) -> Calibration:
    """Read the header's field ``calibration`` for a head of this kind.

    Raises:
        AdapterError: the field is invalid, or belongs to another kind of head.
    """
    of = CALIBRATIONS.get(str(given.get("kind")))
    if of is None or of.of != kind:
        known = ", ".join(name for name, each in CALIBRATIONS.items() if each.of == kind) or "none"
        raise AdapterError(f"'calibration' has the kind {given.get('kind')!r:.60}; for a {kind} head it can be {known}")
    names = {"kind", *(each.name for each in fields(of))}
    if set(given) != names:
        odd = ", ".join(map(repr, sorted(map(str, set(given) ^ names))))
        raise AdapterError(f"'calibration' of the kind {of.kind!r} has unknown or missing fields: {odd:.200}")
    own: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items() if k != "kind"}
    if type(own["rows"]) is not int or own["rows"] < 1 or _has_wrong_types(of, own):
        raise AdapterError(f"'calibration' of the kind {of.kind!r} holds a value of the wrong type")
    made = of(**own)
    if (problem := made.check(num_labels)) is not None:
        raise AdapterError(f"'calibration': {problem}")
    return made


def _has_wrong_types(of: type[Calibration], own: Mapping[str, Any]) -> bool:
    return any(isinstance(own[each.name], tuple) != str(each.type).startswith("tuple") for each in fields(of))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -MOST_VALUE <= value <= MOST_VALUE


def logit(p: float) -> float:
    """The log-odds of a probability that was stored in fp32."""
    p = min(max(p, 1e-37), _NEAREST_ONE)
    return math.log(p) - math.log1p(-p)


def sigmoid(x: float) -> float:
    """The inverse of ``logit``, without overflow."""
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0
