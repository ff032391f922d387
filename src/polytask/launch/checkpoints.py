"""The checkpoints of jobs that train together, a file for each, so that a job continues in whatever pack it is next."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from polytask.backbones.backbone import Backbone
from polytask.errors import CheckpointError
from polytask.training.checkpoint import SHARE, Checkpoint
from polytask.training.job import Job


class Checkpoints:
    """All are written together, in at most a twentieth of the time."""

    def __init__(self, folder: Path, every_s: float = 15.0) -> None:
        self.folder, self.every_s = folder, every_s
        self._due = time.monotonic() + every_s

    def path(self, key: str) -> Path:
        """The file of a job."""
        return self.folder / f"{key}.ckpt"

    def load(self, backbone: Backbone, jobs: Sequence[Job]) -> list[str]:
        """Restore the jobs; remarks on those that start over."""
        notes = []
        for job in jobs:
            try:
                Checkpoint(self.path(job.name)).load(backbone, [job])
            except CheckpointError as error:
                self.path(job.name).unlink(missing_ok=True)
                notes.append(f"{job.task.name} starts over: {error}")
        return notes

    def write(self, backbone: Backbone, jobs: Sequence[Job], *, is_due: bool = False) -> None:
        """Write the state of the jobs that have begun, if that is due."""
        started = time.monotonic()
        if not is_due and started < self._due:
            return
        for job in jobs:
            if job.step:
                Checkpoint(self.path(job.name)).write(backbone, [job])
        now = time.monotonic()
        self._due = now + max(self.every_s, SHARE * (now - started))
