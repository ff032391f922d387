"""Progress bars of a training run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from polytask.cli.wording import seconds_in_words

if TYPE_CHECKING:
    from polytask.training.events import Event

LOG_INTERVAL_S = 15.0
"""Seconds between two lines about the current step in a log."""


class TrainingProgress:
    """Shows the events of a training run as they come."""

    def __init__(self, console: Console, bar: Progress | None) -> None:
        self.console, self.bar = console, bar
        self.metric = ""
        self.row: Any = None
        self.logged_at = time.monotonic()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        from polytask.training.events import Evaluated, Step

        if isinstance(event, Evaluated):
            best = " (best so far)" if event.is_best else ""
            self.metric = f"{event.metric} {event.score:.3f}"
            if self.bar is None:
                line = f"{event.job}: epoch {event.epoch} of {event.num_epochs}, validation {self.metric}{best}"
                self.console.print(line, style="dim")
        elif isinstance(event, Step) and self.bar is None:
            if time.monotonic() - self.logged_at >= LOG_INTERVAL_S:
                self.logged_at = time.monotonic()
                left = event.seconds / event.step * (event.num_steps - event.step)
                where = f"step {event.step:,} of {event.num_steps:,}, epoch {event.epoch} of {event.num_epochs}"
                line = f"{event.job}: {where}, loss {event.loss:.3f}, about {seconds_in_words(left)} left"
                self.console.print(line, style="dim")
        elif isinstance(event, Step) and self.bar is not None:
            shown: dict[str, Any] = {
                "epoch": f"epoch {event.epoch}/{event.num_epochs}",
                "loss": f"loss {event.loss:.3f}",
                "metric": self.metric,
                "speed": f"{event.tokens / max(event.seconds, 1e-9):,.0f} tokens/s",
            }
            if self.row is None:
                self.row = self.bar.add_task(event.job, total=event.num_steps, **shown)
            self.bar.update(self.row, completed=event.step, **shown)


@contextmanager
def watching(console: Console) -> Iterator[TrainingProgress]:
    """A ``progress`` for ``train``: loss, metric, tokens per second and remaining time."""
    if not console.is_terminal:
        yield TrainingProgress(console, None)
        return
    columns = (
        TextColumn("{task.description}", style="bold"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        *(TextColumn(f"{{task.fields[{name}]}}") for name in ("epoch", "loss", "metric", "speed")),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        yield TrainingProgress(console, bar)
