"""``Result``: the outcome of a training run: scores, seconds, parameters, versions and hardware."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import safetensors
import tokenizers
import torch
import transformers

from polytask.data.task import Task
from polytask.errors import RecipeError
from polytask.serialization import ADDED, checked, to_json


@dataclass(frozen=True)
class Score:
    """A metric over some rows, with its 95% bootstrap interval (``evaluation.significance``)."""

    metric: str
    score: float
    rows: int
    interval: tuple[float, float] | None = None

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Score:
        """A score from its fields as JSON values."""
        whole: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**whole)


@dataclass(frozen=True)
class Result:
    """The outcome of a training run.

    Attributes:
        task: the task's name.
        method: the method and its settings.
        recipe: the recipe as JSON values.
        parameters: the numbers ``trained`` (without the head), ``head`` and ``backbone``, and ``percent``, the trained
            parameters in percent of the backbone's.
        train: ``rows``, ``tokens`` (of all epochs), ``epochs``, ``seconds``, ``tokens_per_second``, ``padding`` (its
            mean share of a step's batch) and ``routing`` (``grouped`` if the deltas ran together with those of other
            jobs in most steps, else ``looped``).
        validation: the score of the best epoch.
        test: the score on the test rows; None if there are none, or if only better runs of a sweep were tested.
        majority: the metric of always answering the most frequent training label, on the test rows, or else the
            validation rows (``polytask.evaluation.baselines.majority_score``).
        best_epoch: the epoch whose parameters were kept, from 1.
        truncated: the number of truncated training texts.
        history: ``epoch``, ``score`` and mean ``loss`` of each epoch.
        label_counts: the number of training rows of each label.
        data_digest: the digest of the task's rows.
        environment: dtype, device, threads, versions and hardware.
        calibration: the errors of the probabilities before and after calibration
            (``polytask.training.calibration.measure_calibration``); None if there is nothing to report.
        thresholds: what the adapter's thresholds reach (``polytask.training.calibration.measure_thresholds``); None
            without a goal.
        none: scores of the detector of "none of these" (``polytask.training.none_of_these``); None without a detector.
        probe: the score of a probe on the same rows (``polytask.training.probe.score_probe``); None if not requested.
        start: the adapters that it started from (``adapters.provenance``); None for random weights.
        together: the tasks of a multi-task training (``training.multitask``); None for a task alone.
        columns: the names of the task's columns, as in ``Task``, if it was read from a table.
    """

    task: str
    method: dict[str, Any]
    recipe: dict[str, Any]
    parameters: dict[str, Any]
    train: dict[str, Any]
    validation: Score
    test: Score | None
    majority: float | None
    best_epoch: int
    truncated: int
    history: list[dict[str, float]]
    label_counts: dict[str, int]
    data_digest: str
    environment: dict[str, Any]
    columns: dict[str, str | None] | None = None
    calibration: dict[str, Any] | None = field(default=None, metadata=ADDED)
    thresholds: dict[str, Any] | None = field(default=None, metadata=ADDED)
    none: dict[str, Any] | None = field(default=None, metadata=ADDED)
    probe: dict[str, Any] | None = field(default=None, metadata=ADDED)
    start: dict[str, Any] | None = field(default=None, metadata=ADDED)
    together: list[str] | None = field(default=None, metadata=ADDED)

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values (see ``polytask.serialization``)."""
        scores = {
            name: score and to_json(score) for name, score in (("validation", self.validation), ("test", self.test))
        }
        return {**to_json(self), **scores}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Result:
        """The inverse of ``to_json``."""
        given = checked(cls, values, "a result", RecipeError, may_lack_defaults=True)
        scores = {name: given[name] and Score.from_json(given[name]) for name in ("validation", "test")}
        return cls(**{**given, **scores})


def label_counts(task: Task) -> dict[str, int]:
    """The number of training rows of each label."""
    targets = task.train.targets or []
    if task.kind == "classification":
        counts = Counter(targets)
    elif task.kind == "multilabel":
        counts = Counter(label for target in targets for label in target)
    else:
        return {}
    return {name: counts[index] for index, name in enumerate(task.labels)}


def versions() -> dict[str, str]:
    """The versions of the packages that can change a result."""
    from polytask import __version__

    return {
        "polytask": __version__,
        "torch": str(torch.__version__),
        "transformers": transformers.__version__,
        "tokenizers": tokenizers.__version__,
        "safetensors": safetensors.__version__,
        "python": platform.python_version(),
    }


def environment(device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Device, precision, threads, hardware and versions."""
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {
        "device": str(device),
        "dtype": str(dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "hardware": hardware,
        "cores": os.cpu_count(),
        "versions": versions(),
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
