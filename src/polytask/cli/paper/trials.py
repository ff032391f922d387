"""Trials on the terminal: tables of a plan and of a rerun, and the progress of a run."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from polytask.cli import console, wording

if TYPE_CHECKING:
    from polytask.launch.pace import Pace
    from polytask.paper.ledger import Trial
    from polytask.training.result import Score

MAX_RUNNING = 8
"""Running trials that are shown at once."""


def trial_in_words(trial: Trial) -> str:
    """``CoLA · houlsby, size 64 · lr 1e-3, 5 epochs, seed 0``."""
    from polytask.methods import Houlsby
    from polytask.training.grid import value_in_words

    method, recipe = trial.method, trial.recipe
    if not trial.has_backbone:
        settings = ", ".join(f"{name} {value_in_words(value)}" for name, value in method.items() if name != "name")
        return f"{trial.task} · TF-IDF · {settings}"
    how = f"lr {value_in_words(recipe['lr'])}, {wording.counted(recipe['epochs'], 'epoch')}, seed {recipe['seed']}"
    spread = method.get("init_std")
    started = "" if spread in (None, Houlsby().init_std) else f", init_std {value_in_words(spread)}"
    return f"{trial.task} · {wording.method_in_words(method)}{started} · {how}"


def plan_table(rows: Sequence[Mapping[str, Any]], total: Mapping[str, Any]) -> Table:
    """One line per exhibit; a trial that two exhibits share is counted in the first."""
    names = ("trials", "done", "shared", "to run", "tokens", "time")
    table = console.grid("exhibit", "tasks ×\nsettings\n× seeds", *names, right=names)
    table.padding = (0, 1, 0, 0)
    for row in rows:
        counts = [str(row[name]) for name in ("trials", "done", "shared")]
        table.add_row(row["exhibit"], f"{row['tasks']}×{row['settings']}×{row['seeds']}", *counts, *_cost(row))
    table.add_section()
    table.add_row("all", *[""] * 4, *_cost(total), style="bold")
    return table


def part_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """One line per part; a trial that two parts share is counted in the first."""
    names = ("trials", "done", "to run", "tokens", "time")
    table = console.grid("part", *names, right=names)
    for row in rows:
        table.add_row(row["part"], str(row["trials"]), str(row["done"]), *_cost(row))
    return table


def rerun_table(splits: Mapping[str, tuple[Score | None, Score | None]]) -> Table:
    """The scores of a trial beside those of its rerun."""
    names = ("in the results", "run again", "difference")
    table = console.grid("", "metric", *names, right=names)
    for split, (before, now) in splits.items():
        if before is None or now is None:
            table.add_row(split, "", *("diverged" if one is None else f"{one.score:.4f}" for one in (before, now)), "")
        else:
            apart = f"{now.score - before.score:+.4f}"
            table.add_row(split, before.metric, f"{before.score:.4f}", f"{now.score:.4f}", apart)
    return table


def _cost(row: Mapping[str, Any]) -> list[str]:
    millions = row["tokens"] / 1e6
    tokens = f"{millions:,.1f} M" if millions < 100 else f"{millions:,.0f} M"
    return [f"{row['to_run']:,}", tokens, range_in_words(row["seconds"], *row["seconds_range"])]


def range_in_words(middle_s: float, low_s: float, high_s: float) -> str:
    """``2.1 h (1.8 to 2.5)``: one unit, short enough for one line of a table."""
    unit, of = next(((unit, of) for unit, of in (("h", 3600), ("min", 60)) if high_s >= 2 * of), ("s", 1))
    middle, low, high = (
        f"{value / of:.1f}" if high_s < 10 * of else f"{value / of:,.0f}" for value in (middle_s, low_s, high_s)
    )
    return f"{middle} {unit}" if low == high else f"{middle} {unit} ({low} to {high})"


class TrialProgress:
    """The progress of a run, updated by its messages. The remaining time is estimated by ``pace``."""

    def __init__(self, out: Console, trials: Mapping[str, Trial], todo: Mapping[str, Trial], pace: Pace) -> None:
        self.console, self.trials, self.todo, self.pace = out, trials, todo, pace
        self.packs: list[set[str]] = []
        self.shares: dict[str, float] = {}
        self.epochs: dict[str, str] = {}
        self.elsewhere: set[str] = set()
        self.finished: dict[str, str] = {}
        self.num_diverged = 0
        self.started = time.monotonic()

    @property
    def num_finished(self) -> int:
        """Number of trials that ended in this run."""
        return len(self.finished)

    def __call__(self, message: Mapping[str, Any]) -> None:
        """Update the progress with a message of the run."""
        what, key = message["what"], message.get("key", "")
        if what == "started":
            self.packs.append(set(message["keys"]))
            self.shares.update(dict.fromkeys(message["keys"], 0.0))
        elif what == "elsewhere":
            self.elsewhere.update(message["keys"])
        elif what == "step":
            self.shares[key] = message["step"] / message["num_steps"]
            self.epochs[key] = f"epoch {message['epoch']}/{message['num_epochs']}"
        elif what == "note":
            self.console.print(Text.assemble(("note ", "yellow"), message["text"]))
        elif what == "entry":
            self.shares.pop(key, None)
            self.finished[key] = outcome = _outcome(message["entry"])
            if message["entry"]["failure"] is None:
                self.pace.add(key, message["entry"]["seconds"])
            else:
                self.num_diverged += 1
            if not self.console.is_terminal:
                left = f", {self.left_in_words()} left" if self.num_finished < len(self.todo) else ""
                line = f"{trial_in_words(self.trials[key])}: {outcome} ({self.num_finished} of {len(self.todo)}{left})"
                self.console.print(line, style="dim", soft_wrap=True)

    def left_in_words(self) -> str:
        """The remaining time with its range, from the pace of the finished trials."""
        left = {key: 1 - self.shares.get(key, 0.0) for key in self.todo.keys() - self.finished.keys() - self.elsewhere}
        num_running = sum(not pack <= self.finished.keys() for pack in self.packs)
        needed = self.pace.left_s(left, max(1, num_running))
        if needed is None:
            return "some time"
        low, middle, high = needed
        return f"about {range_in_words(middle, low, high)}"

    def __rich__(self) -> RenderableType:
        """A progress bar over all trials, the last finished trials and the running ones."""
        bar = Table.grid(padding=(0, 2))
        count = f"{self.num_finished}/{len(self.todo)} trials"
        diverged = f"{self.num_diverged} diverged" if self.num_diverged else ""
        passed = wording.seconds_in_words(time.monotonic() - self.started)
        shown = ProgressBar(
            total=max(len(self.todo), 1), completed=self.num_finished + sum(self.shares.values()), width=30
        )
        bar.add_row(shown, count, f"{passed} so far", f"{self.left_in_words()} left", Text(diverged, style="red"))
        table = Table.grid(padding=(0, 2))
        room = max(3, min(MAX_RUNNING, self.console.height - 6))
        for key in list(self.finished)[-2:]:
            table.add_row(Text(trial_in_words(self.trials[key]), style="dim"), Text(self.finished[key], style="green"))
        running = [key for key in self.shares if key in self.epochs] or list(self.shares)
        for key in running[:room]:
            table.add_row(Text(trial_in_words(self.trials[key])), Text(self.epochs.get(key, "starting"), style="cyan"))
        more = len(self.shares) - min(len(running), room)
        last = Text(f"and {more} more running" if more > 0 else "", style="dim")
        return Group(bar, table, last)


@contextmanager
def following(seen: TrialProgress) -> Iterator[None]:
    """Show the progress of a run: live on a terminal, one line per finished trial in a log."""
    if not seen.console.is_terminal:
        yield
        return
    with Live(seen, console=seen.console, transient=True, refresh_per_second=4, vertical_overflow="ellipsis"):
        yield


def _outcome(entry: Mapping[str, Any]) -> str:
    if entry["failure"] is not None:
        return "diverged"
    validation, test = entry["validation"], entry["test"]
    tested = "" if test is None else f", test {test['score']:.3f}"
    return f"validation {validation['metric']} {validation['score']:.3f}{tested}"
