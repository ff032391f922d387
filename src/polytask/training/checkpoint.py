"""Checkpoints: the trained parameters, the optimizer's moments and the progress of each job, in one file.

The file is written whole or not at all. Randomness is a function of the step, so there is no generator state. A file
holds four numbers per trained parameter, and writing takes at most a twentieth of the training time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from polytask.adapters.provenance import start_in_words
from polytask.backbones.backbone import Backbone
from polytask.errors import CheckpointError, RecipeError
from polytask.files import whole_file
from polytask.training.job import Job
from polytask.training.recipe import Recipe

FORMAT = 2
SHARE = 20
"""The least time between two writes, in units of the time of a write."""

_KEY = "polytask-checkpoint"


class Checkpoint:
    """A file with the state of some jobs.

    Args:
        path: the file.
        every_s: the least time between two writes, in seconds.
        resumed: called with the jobs after ``load`` has restored them.
    """

    def __init__(
        self, path: str | Path, *, every_s: float = 15.0, resumed: Callable[[Sequence[Job]], None] | None = None
    ) -> None:
        self.path, self.every_s, self.resumed = Path(path), every_s, resumed
        self._due = time.monotonic() + every_s

    def write_if_due(self, backbone: Backbone, jobs: Sequence[Job]) -> None:
        """Write, unless the last write was too recent (see ``every_s`` and ``SHARE``)."""
        if time.monotonic() >= self._due:
            self.write(backbone, jobs)

    def write(self, backbone: Backbone, jobs: Sequence[Job]) -> None:
        """Write the state of all jobs; to be called between two steps."""
        started = time.monotonic()
        tensors: dict[str, Tensor] = {}
        progress: dict[str, Any] = {}
        for job in jobs:
            own, progress[job.name] = job.state()
            tensors.update({f"{job.name}/{name}": tensor.cpu().contiguous() for name, tensor in own.items()})
        header = {"format": FORMAT, "setting": run_setting(backbone, jobs), "progress": progress}
        with whole_file(self.path) as part:
            save_file(tensors, part, metadata={_KEY: json.dumps(header)})
        now = time.monotonic()
        self._due = now + max(self.every_s, SHARE * (now - started))

    def remove(self) -> None:
        """Delete the file."""
        self.path.unlink(missing_ok=True)

    def header(self) -> dict[str, Any] | None:
        """The file's header; None if there is no file.

        Raises:
            CheckpointError: the file is not a readable checkpoint.
        """
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                header = json.loads((file.metadata() or {})[_KEY])
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise CheckpointError(
                f"{self.path} is not a checkpoint that can be read ({error}). Start over without --resume"
            ) from None
        if header.get("format") != FORMAT:
            raise CheckpointError(
                f"{self.path} was written by another version of Polytask. Start over without --resume"
            )
        return dict(header)

    def load(self, backbone: Backbone, jobs: Sequence[Job]) -> bool:
        """Restore jobs from the file, and set its number of threads, on which the last bits of sums depend.

        Returns:
            Whether there was a file.

        Raises:
            CheckpointError: it belongs to another recipe, other data or another backbone. The jobs are not changed.
        """
        header = self.header()
        if header is None:
            return False
        check_same(self.path, header["setting"], run_setting(backbone, jobs))
        torch.set_num_threads(header["setting"]["threads"])
        with safe_open(self.path, framework="pt") as file:
            for job in jobs:
                own = {name: file.get_tensor(f"{job.name}/{name}") for name in job.state()[0]}
                job.load(own, header["progress"][job.name])
        if self.resumed is not None:
            self.resumed(jobs)
        return True


def run_setting(backbone: Backbone, jobs: Sequence[Job]) -> dict[str, Any]:
    """What a resumed run must have in common with the checkpoint, and the number of threads, which is restored."""
    return {
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "dtype": str(backbone.dtype).removeprefix("torch."),
        "device": backbone.device.type,
        "backbone": backbone.fingerprint,
        "tokenizer": backbone.tokenizer_fingerprint,
        "pooling": backbone.pooling,
        "jobs": {job.name: _described(job) for job in jobs},
    }


def _described(job: Job) -> dict[str, Any]:
    """Data, recipe and, unless it started from random weights, the adapters that a job started from."""
    own: dict[str, Any] = {"data": job.digest, "recipe": job.recipe.to_json()}
    return own if job.origin is None else {**own, "start": job.origin}


def check_same(path: Path, kept: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to resume if anything in the setting changed.

    Raises:
        CheckpointError: with what changed.
    """
    changes = _changes(kept, now)
    if changes:
        more = f" (and {len(changes) - 3} more)" if len(changes) > 3 else ""
        raise CheckpointError(
            f"the checkpoint {path} belongs to another run: {'; '.join(changes[:3])}{more}. "
            "Resume with the original settings, or start over without --resume"
        )


def _changes(kept: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What changed, in words."""
    before, after = kept["jobs"], now["jobs"]
    changes = [f"{name!r} was not part of it" for name in after if name not in before]
    changes += [f"{name!r} was part of it" for name in before if name not in after]
    for name in (name for name in after if name in before):
        of = f" of {name!r}" if len(after) > 1 else ""
        changes += differences(_settings(before[name]), _settings(after[name]), of)
    old, new = ({name: each[name] for name in each if name not in ("jobs", "threads")} for each in (kept, now))
    return changes + differences(old, new)


def _settings(job: Mapping[str, Any]) -> dict[str, Any]:
    """Data digest, recipe and start; settings that the checkpoint leaves out are at their defaults."""
    try:
        recipe = Recipe.from_json(job["recipe"])
    except RecipeError as error:
        raise CheckpointError(f"the checkpoint's recipe cannot be read: {error}") from None
    settings = replace(recipe, method=recipe.method.explicit()).settings()
    return {"data": job["data"], **settings, "start": job.get("start")}


def differences(before: Mapping[str, Any], after: Mapping[str, Any], of: str = "") -> list[str]:
    """``epochs was 3 and is 5``. If the method changed, settings that only one method has are left out."""
    names = (
        before.keys() | after.keys() if before.get("method") == after.get("method") else before.keys() & after.keys()
    )
    return [
        f"{name}{of} was {_shortened(before.get(name))} and is {_shortened(after.get(name))}"
        for name in sorted(names)
        if _as_json(before.get(name)) != _as_json(after.get(name))
    ]


def _as_json(value: Any) -> Any:
    """The value as it would be read back from JSON."""
    return list(value) if isinstance(value, tuple) else value


def _shortened(value: Any) -> str:
    """The value for a message: a start in words, and of a digest only the beginning."""
    if isinstance(value, Mapping):
        digests = "+".join(parent["tensor_digest"][:8] for parent in value["adapters"])
        return f"{start_in_words(value)} ({digests})"
    return repr(value[:12] if isinstance(value, str) else value)
