"""Fits the detector of "none of these" to a trained job, and measures it on rows that did not choose its threshold."""

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

MAX_TEXTS = 5000
"""The detector is fitted on at most this many training texts."""


@dataclass(frozen=True)
class FittedDetector:
    """A detector for the header, its tensors for the file, and what the card reports about it."""

    none: NoneOfThese | None = None
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    report: dict[str, Any] | None = None


@dataclass(frozen=True)
class _EncodedTexts:
    """Vectors ``[B, D]`` and logits ``[B, K]`` of the texts of some rows."""

    encoded: Encoded
    vectors: Tensor
    logits: Tensor

    def familiarity(self, detector: type[Detector], tensors: Mapping[str, Tensor]) -> list[float]:
        """The familiarity of each row: the mean over its windows."""
        of_text = detector.familiarity(self.vectors, self.logits, tensors).float().tolist()
        return [mean(of_text[text] for text in texts) for texts in self.encoded.by_row()]


def fit_detector(backbone: Backbone, job: Job, request: DetectNone | None) -> FittedDetector:
    """Fit a detector to a trained job; its threshold is chosen on the validation rows."""
    if request is None:
        return FittedDetector()
    task = job.task
    with attached_to(backbone, [job]) as attached:
        adapter = (attached, job.name, job.live)
        train = _sample(job.train)
        vectors = vectors_of(backbone, job.train.take(train), adapter).double()
        splits = {"validation": task.validation, **({} if task.test is None else {"test": task.test})}
        familiar = {name: _encode_texts(backbone, job, rows, adapter) for name, rows in splits.items()}
        examples = {name: _encode_texts(backbone, job, rows, adapter) for name, rows in request.examples.items()}
    targets = torch.tensor([job.targets[text] for text in train])
    unfamiliar = examples["train"].vectors.double() if "train" in examples else None
    fitted = {
        name: {k: v.float() for k, v in DETECTORS[name].fit(vectors, targets, len(task.labels), unfamiliar).items()}
        for name in _candidates(examples)
    }
    name = _best_detector(fitted, familiar["validation"], examples.get("validation"))
    threshold = threshold_of(familiar["validation"].familiarity(DETECTORS[name], fitted[name]), request.false_alarm)
    report: dict[str, Any] = {"score": name, "false_alarm": request.false_alarm, "notes": []}
    report |= {} if request.label is None else {"label": request.label}
    if threshold is None:
        needed = math.ceil(1 / request.false_alarm) - 1
        few = f"'none of these' is not set: a false-alarm rate of {request.false_alarm} needs {needed} validation rows"
        return FittedDetector(report={**report, "notes": [few]})
    none = NoneOfThese(name, threshold, request.false_alarm, len(task.validation))
    report |= _measure(DETECTORS[name], fitted[name], threshold, familiar.get("test"), examples)
    return FittedDetector(none, {f"none.{key}": tensor for key, tensor in fitted[name].items()}, report)


def _sample(encoded: Encoded) -> list[int]:
    """At most ``MAX_TEXTS`` evenly spaced texts."""
    return list(range(len(encoded)))[:: -(-len(encoded) // MAX_TEXTS)]


def _encode_texts(backbone: Backbone, job: Job, rows: Rows, adapter: Any) -> _EncodedTexts:
    encoded = encode(backbone.tokenizer, rows, *job.cut)
    vectors = vectors_of(backbone, encoded, adapter)
    with torch.no_grad():
        logits = job.live.head(vectors.to(job.live.head.weight.device)).float().cpu()
    return _EncodedTexts(encoded, vectors, logits)


def _candidates(examples: Mapping[str, Any]) -> Sequence[str]:
    """The detectors to compare. Without validation examples there is nothing to compare them on: the default."""
    if "validation" not in examples:
        return (DEFAULT,)
    return [name for name in DETECTORS if name != "linear" or "train" in examples]


def _best_detector(
    fitted: Mapping[str, Mapping[str, Tensor]], familiar: _EncodedTexts, unfamiliar: _EncodedTexts | None
) -> str:
    """The detector that best separates validation rows from examples; on a tie, the default."""
    if unfamiliar is None:
        return DEFAULT
    values = {
        name: auroc(familiar.familiarity(DETECTORS[name], own), unfamiliar.familiarity(DETECTORS[name], own))
        for name, own in fitted.items()
    }
    return max(values, key=lambda name: (values[name], name == DEFAULT))


def _measure(
    detector: type[Detector],
    tensors: Mapping[str, Tensor],
    threshold: float,
    test: _EncodedTexts | None,
    examples: Mapping[str, _EncodedTexts],
) -> dict[str, Any]:
    """The share of test rows that are wrongly rejected, and the share of test examples that are found."""
    report: dict[str, Any] = {}
    familiar = [] if test is None else test.familiarity(detector, tensors)
    if familiar:
        report["false_alarms"] = share(sum(value < threshold for value in familiar), len(familiar))
    if "test" in examples:
        unfamiliar = examples["test"].familiarity(detector, tensors)
        report["found"] = share(sum(value < threshold for value in unfamiliar), len(unfamiliar))
        report |= {"auroc": auroc(familiar, unfamiliar)} if familiar else {}
    return report
