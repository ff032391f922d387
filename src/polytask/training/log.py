"""Logs training to TensorBoard. torch.utils.tensorboard is imported in this module only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from polytask.errors import PolytaskError
from polytask.training.events import Evaluated, Event, Progress, Step


@contextmanager
def logging(folder: str | Path) -> Iterator[Progress]:
    """A ``progress`` function for ``train`` that logs to ``folder``; each job has its own folder in it.

    It logs ``train/loss``, ``train/learning_rate`` and ``train/tokens_per_second`` per step, and
    ``validation/<metric>`` per epoch.

    Raises:
        PolytaskError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard.writer import SummaryWriter
    except ImportError:
        raise PolytaskError('logging needs TensorBoard, which is not installed: pip install "polytask[log]"') from None
    writers: dict[str, SummaryWriter] = {}

    def write(event: Event) -> None:
        if not isinstance(event, Step | Evaluated):
            return
        if event.job not in writers:
            writers[event.job] = SummaryWriter(Path(folder) / event.job)
        if isinstance(event, Evaluated):
            values, at = {f"validation/{event.metric}": event.score}, event.epoch
        else:
            speed = event.tokens / max(event.seconds, 1e-9)
            values = {"loss": event.loss, "learning_rate": event.lr, "tokens_per_second": speed}
            values, at = {f"train/{name}": value for name, value in values.items()}, event.step
        for name, value in values.items():
            writers[event.job].add_scalar(name, value, at)

    try:
        yield write
    finally:
        for writer in writers.values():
            writer.close()
