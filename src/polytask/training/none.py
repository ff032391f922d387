"""Fitting a detector of none of these to a trained job, and measuring it on rows that did not choose it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

import torch
from torch import Tensor

from polytask.backbones.backbone import Backbone
from polytask.data.encoding import Encoded, encode
from polytask.data.task import Rows
from polytask.evaluation.detectors import DEFAULT, DETECTORS, Detector
from polytask.evaluation.none_of_these import DetectNone, NoneOfThese, auroc, threshold_of
from polytask.evaluation.reliability import share
from polytask.inference.vectors import vectors_of
from polytask.training.job import Job, attached_to

MOST_ROWS = 5000
"""Training texts whose vectors are taken, at most."""


@dataclass(frozen=True)
class Detected:
    """A detector for the header, its tensors for the file, and what the card says of it."""

    none: NoneOfThese | None = None
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    said: dict[str, Any] | None = None


@dataclass(frozen=True)
class _Texts:
    """Vectors and logits of the texts of some rows."""

    encoded: Encoded
    vectors: Tensor
    logits: Tensor

    def familiarity(self, detector: type[Detector], tensors: Mapping[str, Tensor]) -> list[float]:
        """Of each row, the mean over its windows."""
        of_text = detector.familiarity(self.vectors, self.logits, tensors).float().tolist()
        return [mean(of_text[text] for text in texts) for texts in self.encoded.by_row()]


def detected(backbone: Backbone, job: Job, wanted: DetectNone | None) -> Detected:
    """A detector for a trained job; the threshold is chosen on its validation rows."""
    if wanted is None:
        return Detected()
    task = job.task
    with attached_to(backbone, [job]) as attached:
        adapter = (attached, job.name, job.live)
        train = _some(job.train)
        known = vectors_of(backbone, job.train.take(train), adapter).double()
        rows = {"validation": task.validation, **({} if task.test is None else {"test": task.test})}
        right = {name: _texts(backbone, job, of, adapter) for name, of in rows.items()}
        examples = {name: _texts(backbone, job, of, adapter) for name, of in wanted.examples.items()}
    targets = torch.tensor([job.targets[text] for text in train])
    taught = examples["train"].vectors.double() if "train" in examples else None
    fitted = {
        name: {k: v.float() for k, v in DETECTORS[name].fit(known, targets, len(task.labels), taught).items()}
        for name in _candidates(examples)
    }
    name = _best(fitted, right["validation"], examples.get("validation"))
    cut = threshold_of(right["validation"].familiarity(DETECTORS[name], fitted[name]), wanted.false_alarm)
    said: dict[str, Any] = {"score": name, "false_alarm": wanted.false_alarm, "notes": []}
    said |= {} if wanted.label is None else {"label": wanted.label}
    if cut is None:
        needed = math.ceil(1 / wanted.false_alarm) - 1
        few = f"'none of these' is not set: a false-alarm rate of {wanted.false_alarm} needs {needed} validation rows"
        return Detected(said={**said, "notes": [few]})
    none = NoneOfThese(name, cut, wanted.false_alarm, len(task.validation))
    said |= _measured(DETECTORS[name], fitted[name], cut, right.get("test"), examples)
    return Detected(none, {f"none.{key}": tensor for key, tensor in fitted[name].items()}, said)


def _some(encoded: Encoded) -> list[int]:
    """Texts at equal distances, at most ``MOST_ROWS``."""
    return list(range(len(encoded)))[:: -(-len(encoded) // MOST_ROWS)]


def _texts(backbone: Backbone, job: Job, rows: Rows, adapter: Any) -> _Texts:
    encoded = encode(backbone.tokenizer, rows, *job.cut)
    vectors = vectors_of(backbone, encoded, adapter)
    with torch.no_grad():
        logits = job.live.head(vectors.to(job.live.head.weight.device)).float().cpu()
    return _Texts(encoded, vectors, logits)


def _candidates(examples: Mapping[str, Any]) -> Sequence[str]:
    """The detectors to compare: with examples to compare them on all, else the one that is best elsewhere."""
    if "validation" not in examples:
        return (DEFAULT,)
    return [name for name in DETECTORS if name != "linear" or "train" in examples]


def _best(fitted: Mapping[str, Mapping[str, Tensor]], right: _Texts, unlike: _Texts | None) -> str:
    """The detector that tells the validation rows best from the examples; of equals, the default one."""
    if unlike is None:
        return DEFAULT
    values = {
        name: auroc(right.familiarity(DETECTORS[name], own), unlike.familiarity(DETECTORS[name], own))
        for name, own in fitted.items()
    }
    return max(values, key=lambda name: (values[name], name == DEFAULT))


def _measured(
    detector: type[Detector],
    tensors: Mapping[str, Tensor],
    cut: float,
    right: _Texts | None,
    examples: Mapping[str, _Texts],
) -> dict[str, Any]:
    """On test rows: the share called none of these wrongly, and of the examples the share that is found."""
    said: dict[str, Any] = {}
    familiar = [] if right is None else right.familiarity(detector, tensors)
    if familiar:
        said["false_alarms"] = share(sum(value < cut for value in familiar), len(familiar))
    if "test" in examples:
        unlike = examples["test"].familiarity(detector, tensors)
        said["found"] = share(sum(value < cut for value in unlike), len(unlike))
        said |= {"auroc": auroc(familiar, unlike)} if familiar else {}
    return said
