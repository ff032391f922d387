"""The folder of a sweep: reads and writes its results."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polytask.adapters.adapter import Adapter
from polytask.backbones.backbone import Backbone
from polytask.data.task import Task
from polytask.errors import CheckpointError, PolytaskError
from polytask.files import write_text
from polytask.training.checkpoint import Checkpoint, differences, run_setting
from polytask.training.recipe import Recipe
from polytask.training.result import Result
from polytask.training.start import Start
from polytask.training.sweep_result import Run

FORMAT = 1
CHECKPOINT = "sweep.ckpt"
KEY_LENGTH = 16


class SweepFolder:
    """The results of one task on one backbone, in a folder."""

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        self.folder, self.identity = folder, identity

    def read(self, recipe: Recipe) -> Run | None:
        """The run of a recipe; None if it is not finished.

        Raises:
            CheckpointError: the file cannot be read, or belongs to another sweep.
        """
        path = self.folder / f"{recipe.key}.json"
        if not path.exists():
            return None
        values = _read_result(path)
        check_same_sweep(path, values["identity"], self.identity)
        is_whole = values["run"].result is None or self._adapter_path(recipe.key).exists()
        return values["run"] if is_whole else None

    def write(self, run: Run, adapter: Adapter | None) -> None:
        """Store a finished run, and its adapter unless it diverged."""
        if adapter is not None:
            adapter.save(self._adapter_path(run.key))
        values = {
            "format": FORMAT,
            "status": run.status,
            "identity": self.identity,
            "recipe": run.recipe.to_json(),
            "result": None if run.result is None else run.result.to_json(),
            "failure": run.failure,
        }
        write_text(self.folder / f"{run.key}.json", json.dumps(values, indent=1, allow_nan=False) + "\n")

    def adapter(self, key: str) -> Adapter:
        """The adapter of a finished run."""
        return Adapter.load(self._adapter_path(key))

    def _adapter_path(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"


def started_with(folder: str | Path) -> dict[str, Any] | None:
    """What the sweep in a folder was started with: ``data``, ``backbone``, ``dtype``, …; None if there is none yet.

    Raises:
        CheckpointError: a file in the folder cannot be read.
    """
    for path in sorted(Path(folder).glob(f"{'[0-9a-f]' * KEY_LENGTH}.json")):
        return dict(_read_result(path)["identity"])
    header = checkpoint_header(Checkpoint(Path(folder) / CHECKPOINT))
    return None if header is None else dict(header["setting"])


def identity_of(backbone: Backbone, task: Task, start: Start | None = None) -> dict[str, Any]:
    """What all runs of a sweep have in common; ``start`` is left out if they start from random weights."""
    setting = run_setting(backbone, ())
    names = ("backbone", "tokenizer", "pooling", "dtype", "device")
    own = {"data": task.digest, **{name: setting[name] for name in names}}
    return own if start is None else {**own, "start": start.digest}


def check_same_sweep(path: Path, kept: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to mix runs of different data or backbones.

    Raises:
        CheckpointError: with what differs.
    """
    names = {*now, *({"start"} & kept.keys())}
    changes = differences({name: kept.get(name) for name in names}, {name: now.get(name) for name in names})
    if changes:
        raise CheckpointError(
            f"{path} belongs to another sweep: {'; '.join(changes)}. "
            "Give another folder, use what that sweep was started with, or remove the file"
        )


def _read_result(path: Path) -> dict[str, Any]:
    """The ``run`` in a result file, and the ``identity`` of its sweep."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        result = None if values["status"] == "diverged" else Result.from_json(values["result"])
        run = Run(Recipe.from_json(values["recipe"]), result, values["failure"])
        if values["format"] != FORMAT or run.key != path.stem:
            raise ValueError
        return {"run": run, "identity": dict(values["identity"])}
    except (ValueError, KeyError, TypeError) as error:
        why = f": {error}" if isinstance(error, PolytaskError) else ""
        fix = "Remove it to run its recipe again"
        raise CheckpointError(f"{path} is not a result of a sweep{why}. {fix}") from None


def checkpoint_header(checkpoint: Checkpoint) -> dict[str, Any] | None:
    """The header of a sweep's checkpoint; None if there is none.

    Raises:
        CheckpointError: the checkpoint cannot be read.
    """
    try:
        return checkpoint.header()
    except CheckpointError:
        raise CheckpointError(
            f"{checkpoint.path} is not a checkpoint that can be read. Remove it: unfinished runs start over, "
            "finished ones stay"
        ) from None
