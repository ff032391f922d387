"""Checkpoints: what is trained, the optimizer's moments and how far each job is. One file, whole or not at all.

Randomness is a function of the step, so no generator state is kept. Writing is bounded: a file holds four numbers for
each trained parameter, and takes at most a twentieth of the time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from polytask.backbones.backbone import Backbone
from polytask.errors import CheckpointError, RecipeError
from polytask.files import whole_file
from polytask.training.job import Job
from polytask.training.recipe import Recipe

FORMAT = 2
SHARE = 20
_KEY = "polytask-checkpoint"


class Checkpoint:
    """Where the state of some jobs is kept, and when it was written last.

    ``resumed`` is called with the jobs once they are where the checkpoint left them.
    """

    def __init__(
        self, path: str | Path, *, every_s: float = 15.0, resumed: Callable[[Sequence[Job]], None] | None = None
    ) -> None:
        self.path, self.every_s, self.resumed = Path(path), every_s, resumed
        self._due = time.monotonic() + every_s

    def write_if_due(self, backbone: Backbone, jobs: Sequence[Job]) -> None:
        """Write, unless that was done so short a time ago that it would cost more than a twentieth of the time."""
        if time.monotonic() >= self._due:
            self.write(backbone, jobs)

    def write(self, backbone: Backbone, jobs: Sequence[Job]) -> None:
        """Write the state of all jobs between two steps."""
        started = time.monotonic()
        tensors: dict[str, Tensor] = {}
        progress: dict[str, Any] = {}
        for job in jobs:
            own, progress[job.name] = job.state()
            tensors.update({f"{job.name}/{name}": tensor.cpu().contiguous() for name, tensor in own.items()})
        header = {"format": FORMAT, "setting": setting(backbone, jobs), "progress": progress}
        with whole_file(self.path) as part:
            save_file(tensors, part, metadata={_KEY: json.dumps(header)})
        now = time.monotonic()
        self._due = now + max(self.every_s, SHARE * (now - started))

    def remove(self) -> None:
        """The run is over."""
        self.path.unlink(missing_ok=True)

    def header(self) -> dict[str, Any] | None:
        """What the checkpoint says of itself; None where there is none.

        Raises:
            CheckpointError: the file is not a checkpoint that can be read.
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
            raise CheckpointError(f"{self.path} is of another version of Polytask. Start over without --resume")
        return dict(header)

    def load(self, backbone: Backbone, jobs: Sequence[Job]) -> bool:
        """Take jobs to where the checkpoint left them; whether there was one.

        The number of threads it was made with is set, because sums of another number of parts differ in their last
        bits.

        Raises:
            CheckpointError: it belongs to another recipe, other data or another backbone; nothing was changed.
        """
        header = self.header()
        if header is None:
            return False
        check_same(self.path, header["setting"], setting(backbone, jobs))
        torch.set_num_threads(header["setting"]["threads"])
        with safe_open(self.path, framework="pt") as file:
            for job in jobs:
                own = {name: file.get_tensor(f"{job.name}/{name}") for name in job.state()[0]}
                job.load(own, header["progress"][job.name])
        if self.resumed is not None:
            self.resumed(jobs)
        return True


def setting(backbone: Backbone, jobs: Sequence[Job]) -> dict[str, Any]:
    """What must be the same for a run to go on to the same bits; and the threads, which are then set."""
    return {
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "dtype": str(backbone.dtype).removeprefix("torch."),
        "device": backbone.device.type,
        "backbone": backbone.fingerprint,
        "tokenizer": backbone.tokenizer_fingerprint,
        "pooling": backbone.pooling,
        "jobs": {job.name: {"data": job.task.digest, "recipe": job.recipe.to_json()} for job in jobs},
    }


def check_same(path: Path, kept: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on with anything changed, saying what."""
    changes = _changes(kept, now)
    if changes:
        more = f" (and {len(changes) - 3} more)" if len(changes) > 3 else ""
        raise CheckpointError(
            f"the checkpoint {path} belongs to another run: {'; '.join(changes[:3])}{more}. "
            "Go on with what it was started with, or start over without --resume"
        )


def _changes(kept: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What is not as it was, in words."""
    before, after = kept["jobs"], now["jobs"]
    changes = [f"{name!r} was not in it" for name in after if name not in before]
    changes += [f"{name!r} was in it" for name in before if name not in after]
    for name in (name for name in after if name in before):
        of = f" of {name!r}" if len(after) > 1 else ""
        changes += differences(_settings(before[name]), _settings(after[name]), of)
    old, new = ({name: each[name] for name in each if name not in ("jobs", "threads")} for each in (kept, now))
    return changes + differences(old, new)


def _settings(job: Mapping[str, Any]) -> dict[str, Any]:
    """Data and recipe, with the settings that the checkpoint lacks because they are at their defaults."""
    try:
        return {"data": job["data"], **Recipe.from_json(job["recipe"]).settings()}
    except RecipeError as error:
        raise CheckpointError(f"the checkpoint's recipe cannot be read: {error}") from None


def differences(before: Mapping[str, Any], after: Mapping[str, Any], of: str = "") -> list[str]:
    """``epochs was 3 and is 5``. Beside another method, settings that only one of them has are not told."""
    names = (
        before.keys() | after.keys() if before.get("method") == after.get("method") else before.keys() & after.keys()
    )
    return [
        f"{name}{of} was {_short(before.get(name))} and is {_short(after.get(name))}"
        for name in sorted(names)
        if _plain(before.get(name)) != _plain(after.get(name))
    ]


def _plain(value: Any) -> Any:
    """As JSON gives it back."""
    return list(value) if isinstance(value, tuple) else value


def _short(value: Any) -> str:
    """Enough of a digest to tell it from another."""
    return repr(value[:12] if isinstance(value, str) else value)
