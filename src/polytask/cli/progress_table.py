"""The progress of many runs: a live table on a terminal, one line per finished run in a log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from polytask.cli import console, wording

if TYPE_CHECKING:
    from polytask.training.events import Event
    from polytask.training.sweep_result import Kept
    from polytask.training.tune import Left

OTHER_LINES = 8
"""Lines of the terminal that are not for runs."""

STYLES = {"waiting": "dim", "training": "cyan", "done": "green", "stopped": "dim", "diverged": "red"}


@dataclass
class Line:
    """The progress of one run."""

    label: str
    state: str = "waiting"
    epoch: str = ""
    loss: float | None = None
    score: float | None = None
    is_logged: bool = False

    @property
    def is_running(self) -> bool:
        """Whether the run has not ended."""
        return self.state in ("waiting", "training")


class ProgressTable:
    """The progress of all runs, updated by their events.

    Args:
        out: the terminal or log.
        labels: the label of each run, by the name of its job.
        metric: the metric on the validation rows.
    """

    def __init__(self, out: Console, labels: Mapping[str, str], metric: str) -> None:
        self.console, self.metric = out, metric
        self.lines = {job: Line(label) for job, label in labels.items()}
        self.num_logged = 0

    def __call__(self, event: Event | Kept | Left) -> None:
        """Update the progress with an event."""
        from polytask.training.events import Evaluated, Failed, Step
        from polytask.training.sweep_result import Kept

        line = self.lines[event.job]
        if isinstance(event, Step):
            line.state, line.loss, line.epoch = "training", event.loss, f"{event.epoch}/{event.num_epochs}"
        elif isinstance(event, Evaluated):
            line.score = event.score if line.score is None else max(line.score, event.score)
            if event.epoch == event.num_epochs:
                line.state = "done"
        elif isinstance(event, Failed):
            line.state = "diverged"
        elif isinstance(event, Kept):
            line.is_logged |= line.state == "waiting"  # an earlier sweep ran it
            line.state, line.score = "done" if event.run.result else "diverged", event.run.score
            if event.run.result:
                line.epoch = f"{event.run.result.train['epochs']}/{event.run.recipe.epochs}"
        else:
            line.state, line.epoch = "stopped", f"{event.epochs}/{event.num_epochs}"
        if not self.console.is_terminal and not line.is_running and not line.is_logged:
            self.log(line)
            self.num_logged += 1

    def close(self) -> None:
        """Log how many runs an earlier call had finished."""
        finished_before = sum(not line.is_running for line in self.lines.values()) - self.num_logged
        if finished_before:
            self.console.print(
                f"{wording.counted(finished_before, 'run')} of {len(self.lines)} had already finished", style="dim"
            )

    def log(self, line: Line) -> None:
        """Log that a run has ended, in one line."""
        line.is_logged = True
        scored = "" if line.score is None else f", validation {self.metric} {line.score:.3f}"
        passes = f" after epoch {line.epoch.replace('/', ' of ')}" if line.epoch else ""
        num_ended = sum(not other.is_running for other in self.lines.values())
        done = f" ({num_ended} of {len(self.lines)})"
        self.console.print(f"{line.label}: {line.state}{passes}{scored}{done}", style="dim", soft_wrap=True)

    def __rich__(self) -> RenderableType:
        """A table of all runs, or of the running ones if there are too many lines; and a line with the totals."""
        shown = list(self.lines.values())
        room = max(4, self.console.height - OTHER_LINES)
        if len(shown) > room:
            shown = [line for line in shown if line.is_running][:room]
        best = max((line.score for line in self.lines.values() if line.score is not None), default=None)
        table = console.grid("setting", "epoch", "loss", f"best {self.metric}", "", right=("epoch", "loss"))
        for line in shown:
            score = "" if line.score is None else f"{line.score:.3f}"
            table.add_row(
                line.label,
                line.epoch,
                "" if line.loss is None else f"{line.loss:.3f}",
                Text(score, style="bold green" if line.score == best else ""),
                Text(line.state, style=STYLES[line.state]),
            )
        num_ended = sum(not line.is_running for line in self.lines.values())
        table.caption = f"{num_ended} of {len(self.lines)} done" + ("" if best is None else f", the best {best:.3f}")
        table.caption_justify = "left"
        return table


@contextmanager
def live_progress_table(out: Console, labels: Mapping[str, str], metric: str) -> Iterator[ProgressTable]:
    """A ``progress`` for ``sweep`` and ``tune`` that shows all runs."""
    shown = ProgressTable(out, labels, metric)
    if not out.is_terminal:
        yield shown
        shown.close()
        return
    with Live(shown, console=out, transient=True, refresh_per_second=4, vertical_overflow="ellipsis"):
        yield shown
