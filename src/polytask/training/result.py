"""What a recipe produced on a task: scores, seconds, parameters, versions, hardware."""

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
    """A metric over some rows, with the range in which it lies in 95% of resamples of them (``tasks.chance``)."""

    metric: str
    score: float
    rows: int
    interval: tuple[float, float] | None = None

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Score:
        """From the fields as JSON values."""
        whole: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**whole)


@dataclass(frozen=True)
class Result:
    """The outcome of a training run.

    Attributes:
        parameters: ``trained`` (without the head), ``head``, ``backbone``, and ``percent``, trained of backbone.
        train: ``rows``, ``tokens`` (with repetitions), ``epochs``, ``seconds``, ``tokens_per_second``, ``padding`` (the
            mean share of it in a step's batch) and ``routing`` (``grouped`` where most steps ran its deltas together
            with those of other jobs, else ``looped``).
        validation: of the epoch that was kept, the ``best_epoch``.
        test: None where there are no test rows, or they were left to better runs (``sweep``).
        majority: the metric where each of the rows that ``test`` (or else ``validation``) is about is given the
            commonest label of the training rows (``polytask.evaluation.baselines.majority_score``).
        truncated: training texts longer than the limit.
        history: ``epoch``, ``score`` and mean ``loss`` of each epoch.
        label_counts: training rows of each label.
        environment: dtype, device, threads, versions and hardware.
        calibration: how far the probabilities can be believed, before and after they were calibrated
            (``polytask.training.calibrate.measured``); None where nothing is to be said.
        thresholds: what the adapter's thresholds hold (``polytask.training.calibrate.held``); None without a goal.
        columns: where the task was read from a table, the names of its columns, as in ``Task``.
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

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values, as ``polytask.serialization`` has them."""
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
    """Training rows of each label."""
    targets = task.train.targets or []
    if task.kind == "classification":
        counts = Counter(targets)
    elif task.kind == "multilabel":
        counts = Counter(label for target in targets for label in target)
    else:
        return {}
    return {name: counts[index] for index, name in enumerate(task.labels)}


def versions() -> dict[str, str]:
    """Of everything that could change a result."""
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
    """Where and how a result came about."""
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
