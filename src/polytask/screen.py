"""What a person sees: progress, panels, tables. Progress and remarks go to stderr, answers to stdout.

On a terminal a bar moves; in a log each epoch is one line.
"""

from __future__ import annotations

import codecs
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console, RenderableType
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from polytask.errors import printable

if TYPE_CHECKING:
    from polytask.predict import Prediction
    from polytask.store import Entry
    from polytask.tasks.baselines import Majority
    from polytask.tasks.report import Report
    from polytask.train.loop import Event
    from polytask.train.result import Result

WIDTH = 100
MOST_COLUMNS = 10
SHORTEST_TEXT = 24
MOST = sys.maxsize
LONGEST_ANSWER = 48
LONGEST_MAJORITY = 24
TOGETHER = {"grouped": ", its adapter computed in one product with other runs'"}
"""What a training says of its ``routing`` where it did not run on its own."""
SILENCE_S = 15.0
"""About so often the log of a training says which step it is at."""


def encode(stream: TextIOWrapper) -> None:
    """Let a stream take every character: a terminal shows a question mark for what it cannot, a file loses nothing.

    Where the locale is C, files and pipes get UTF-8, unless ``PYTHONIOENCODING`` says what they are to get.
    """
    if stream.isatty() or os.environ.get("PYTHONIOENCODING"):
        stream.reconfigure(errors="replace")
    elif codecs.lookup(stream.encoding).name == "ascii":
        stream.reconfigure(encoding="utf-8")
    else:
        stream.reconfigure(errors="backslashreplace")


def broken_pipe() -> SystemExit:
    """The exit of a program whose reader has gone, as of ``yes | head -1``: silent, with 128 + SIGPIPE."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with suppress(OSError, ValueError):  # tests have streams that are no files
        os.dup2(nowhere, sys.stdout.fileno())
    return SystemExit(141)


class Terminal(Console):
    """A console that leaves it to ``main`` what becomes of a closed pipe."""

    def on_broken_pipe(self) -> None:
        """See ``broken_pipe``."""
        raise broken_pipe()


def terminal(*, stderr: bool = False) -> Console:
    """A console no wider than is pleasant to read; text is never taken for markup."""
    console = Terminal(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=False)
    console.width = min(console.width, WIDTH) if console.is_terminal else WIDTH
    return console


def bytes_in_words(size_bytes: float) -> str:
    """``4.8 MB`` for 4,800,000."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes:.0f} B"


def seconds_in_words(seconds: float) -> str:
    """``8.3 s``, ``52 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def counted(number: int, noun: str) -> str:
    """``1 epoch``, ``3 epochs``, ``2,000 texts``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def shortened(text: str, longest: int) -> str:
    """The text on one line, cut at ``longest`` characters."""
    text = printable(" ".join(text[: 8 * longest].split()))
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def method_in_words(method: Mapping[str, Any]) -> str:
    """``houlsby, size 64``: the name and the first setting; the others where the adapter is inspected."""
    name, *settings = method.items()
    shown = [f"{key} {value}" for key, value in settings if key in ("size", "rank", "n")]
    return ", ".join([str(name[1]), *shown])


class Watch:
    """Shows the events of a training run as they come."""

    def __init__(self, console: Console, bar: Progress | None) -> None:
        self.console, self.bar = console, bar
        self.metric = ""
        self.row: Any = None
        self.told = time.monotonic()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        from polytask.train.loop import Evaluated, Step

        if isinstance(event, Evaluated):
            best = " (best so far)" if event.is_best else ""
            self.metric = f"{event.metric} {event.score:.3f}"
            if self.bar is None:
                line = f"{event.job}: epoch {event.epoch} of {event.num_epochs}, validation {self.metric}{best}"
                self.console.print(line, style="dim")
        elif isinstance(event, Step) and self.bar is None:
            if time.monotonic() - self.told >= SILENCE_S:
                self.told = time.monotonic()
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
def watching(console: Console) -> Iterator[Watch]:
    """A ``progress`` for ``train``: loss, metric, tokens a second and the time that is left."""
    if not console.is_terminal:
        yield Watch(console, None)
        return
    columns = (
        TextColumn("{task.description}", style="bold"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        *(TextColumn(f"{{task.fields[{name}]}}") for name in ("epoch", "loss", "metric", "speed")),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        yield Watch(console, bar)


def notes(console: Console, remarks: Sequence[str]) -> None:
    """Remarks that a person should know of and that stop nothing."""
    for remark in remarks:
        console.print(Text.assemble(("note ", "yellow"), printable(remark)))


def refusal(console: Console, message: str) -> None:
    """One clear red line."""
    console.print(Text.assemble(("error ", "bold red"), (printable(message), "red")), soft_wrap=True)


def panel(title: str, rows: Sequence[tuple[str, RenderableType]]) -> Panel:
    """Named facts in a box."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for name, value in rows:
        table.add_row(name, value)
    return Panel(
        table, title=Text(printable(title), style="bold"), title_align="left", border_style="green", padding=(0, 1)
    )


def hint(console: Console, command: str) -> None:
    """The command to try next, never broken into two lines."""
    console.print(Text.assemble(("  next  ", "dim"), (command, "bold cyan")), soft_wrap=True)


def grid(*columns: str, right: Sequence[str] = (), title: str | None = None) -> Table:
    """An empty table in the style of all of them; the columns named in ``right`` hold numbers."""
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", title=title, title_justify="left", pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table


def answer_in_words(prediction: Prediction) -> Text:
    """``spam 98%``, ``urgent 91%, billing 64%``, ``3.42``, ``martial spirit 87%``."""
    if prediction.error is not None:
        return Text(f"({prediction.error})", style="yellow")
    if prediction.answer is not None:
        return _with_share(shortened(prediction.answer, LONGEST_ANSWER) or "(none)", prediction.score or 0.0)
    if prediction.score is not None:
        return Text(f"{prediction.score:.3f}")
    if prediction.labels is not None:
        shares = prediction.probs or {}
        shown = [_with_share(shortened(label, LONGEST_ANSWER), shares[label]) for label in prediction.labels]
        return Text(", ").join(shown) if shown else Text("(none)")
    assert prediction.label is not None
    share = (prediction.probs or {})[prediction.label]
    return _with_share(shortened(prediction.label, LONGEST_ANSWER), share)


def _with_share(answer: str, share: float) -> Text:
    style = "green" if share >= 0.8 else "yellow" if share >= 0.5 else "red"
    return Text.assemble(answer, " ", (f"{share:.0%}", style))


def answers(
    texts: Sequence[str], by_task: Mapping[str, Sequence[Prediction]], pairs: Sequence[str] | None = None
) -> Table:
    """One line a text or pair of texts, one column a task; the texts are cut to what room the answers leave."""
    columns = [[answer_in_words(prediction) for prediction in column] for column in by_task.values()]
    widths = [
        max(len(name), *(cell.cell_len for cell in column[: len(texts)])) for name, column in zip(by_task, columns)
    ]
    given = {"text": texts} if pairs is None else {"text": texts, "second text": pairs}
    room = max((WIDTH - sum(width + 3 for width in widths)) // len(given) - 2, SHORTEST_TEXT)
    table = grid(*given, *by_task)
    for row in range(len(texts)):
        shown = (Text(shortened(column[row], room)) for column in given.values())
        table.add_row(*shown, *(column[row] for column in columns))
    return table


def entries(found: Sequence[Entry]) -> Table:
    """The adapters of a store."""
    table = grid("adapter", "labels", "method", "score", "backbone", "size", "made", right=("size",))
    for entry in found:
        header = entry.header
        shown = header.head.kind if not entry.labels else f"{len(entry.labels)}: {', '.join(entry.labels)}"
        alias = "".join(f" ({name})" for name in entry.aliases)
        table.add_row(
            Text.assemble((str(entry), "bold"), alias),
            Text(shortened(shown, 36)),
            method_in_words(header.to_object()["method"]),
            f"{entry.metric} {entry.score:.3f}",
            shortened(header.backbone.name, 24),
            bytes_in_words(entry.size_bytes),
            entry.created[:10],
        )
    return table


def trained(entry: Entry, result: Result, majority: Majority | None, max_length: int = MOST) -> RenderableType:
    """What came of a training run: the score beside what it must be held against, its cost, and where it is.

    ``max_length`` is what the backbone reads of a text.
    """
    of, train = result.parameters, result.train
    called = metric_in_words(result.validation.metric, entry.labels)
    padded = "" if "padding" not in train else f", {train['padding']:.0%} padding{TOGETHER.get(train['routing'], '')}"
    rows: list[tuple[str, RenderableType]] = []
    if result.test is not None:
        rows.append(("test", scored(**{**asdict(result.test), "metric": called}, majority=majority)))
    versus = majority if result.test is None else None
    rows += [
        ("validation", scored(**{**asdict(result.validation), "metric": called}, majority=versus)),
        ("kept", f"epoch {result.best_epoch} of {train['epochs']}"),
        (
            "trained",
            f"{of['trained']:,} parameters and a head of {of['head']:,}: "
            f"{of['percent']:.2f}% of the backbone's {of['backbone']:,}",
        ),
        (
            "time",
            f"{seconds_in_words(train['seconds'])}, {train['epochs']} × {counted(train['rows'], 'text')}, "
            f"{train['tokens_per_second']:,.0f} tokens/s{padded}",
        ),
        ("truncated", truncated(result.truncated, train["rows"], result.recipe, max_length)),
        ("adapter", Text.assemble((entry.path, "bold"), f"  {bytes_in_words(entry.size_bytes)}")),
    ]
    name = f"{entry} · {method_in_words(result.method)} on {entry.header.backbone.name}"
    return panel(f"{name} ({result.environment['dtype']}, {result.environment['device']})", rows)


def metric_in_words(metric: str, labels: Sequence[str]) -> str:
    """``f1 of 'spam'`` where a metric looks at one of two labels; else its name."""
    return f"f1 of {shortened(labels[1], 24)!r}" if metric == "f1" and len(labels) == 2 else metric


def scored(
    metric: str,
    score: float,
    rows: int,
    interval: tuple[float, float] | None = None,
    majority: Majority | None = None,
) -> Text:
    """``accuracy 0.912  (0.883 to 0.940; majority class of the training rows ('ham'): 0.504) on 400 texts``.

    The range is the score's 95% interval.
    """
    beside = [] if interval is None else [f"{interval[0]:.3f} to {interval[1]:.3f}"]
    if majority is not None:
        label = shortened(majority.label, LONGEST_MAJORITY)
        beside.append(f"majority class of the training rows ({label!r}): {majority.score:.3f}")
    versus = f"  ({'; '.join(beside)})" if beside else ""
    return Text.assemble(f"{metric} ", (f"{score:.3f}", "bold green"), (f"{versus} on {counted(rows, 'text')}", "dim"))


def truncated(num_truncated: int, num_rows: int, recipe: Mapping[str, Any], most: int = MOST) -> Text:
    """How many texts lost their end; ``most`` is what the backbone reads."""
    max_length, is_span = min(recipe["max_length"], most), recipe["stride"] is not None
    if is_span and num_truncated:
        return Text(
            f"{num_truncated:,} of {counted(num_rows, 'question')} lost their end; contexts are read in windows"
        )
    if is_span or recipe["long"] == "split":
        return Text(f"none: what is longer than {max_length} tokens is read in windows")
    if not num_truncated:
        return Text(f"none of {counted(num_rows, 'text')} is longer than {max_length} tokens")
    share = num_truncated / num_rows
    text = (
        f"{num_truncated:,} of {counted(num_rows, 'text')} ({share:.0%}) lost what they have beyond {max_length} tokens"
    )
    return Text(text, style="yellow" if share >= 0.1 else "")


def evaluated(
    entry: Entry,
    file: str,
    num_rows: int,
    metric: str,
    metrics: Mapping[str, float],
    interval: tuple[float, float],
    majority: Majority | None,
) -> RenderableType:
    """The scores of an adapter on a file."""
    called = metric_in_words(metric, entry.labels)
    rows: list[tuple[str, RenderableType]] = [("score", scored(called, metrics[metric], num_rows, interval, majority))]
    rows += [(metric_in_words(name, entry.labels), f"{value:.3f}") for name, value in metrics.items() if name != metric]
    return panel(f"{entry} on {file}", rows)


def by_label(report: Report) -> Table:
    """Which labels are found and which are missed, in the order of ``confused``."""
    table = grid("label", *_OF_LABELS, right=_OF_LABELS)
    for label in report.labels:
        shares = (f"{share:.3f}" for share in (label.precision, label.recall, label.f1))
        table.add_row(Text(shortened(label.label, 36)), *shares, f"{label.rows:,}")
    return table


_OF_LABELS = ("precision", "recall", "F1", "rows")


def confused(labels: Sequence[str], confusion: Sequence[Sequence[int]]) -> Table:
    """Which label is taken for which: a matrix, or of many labels the commonest mistakes."""
    names = [shortened(label, 16) for label in labels]
    if len(labels) > MOST_COLUMNS:
        mistakes = [
            (count, right, given)
            for right, row in zip(names, confusion)
            for given, count in zip(names, row)
            if count and given != right
        ]
        table = grid("true label", "answered instead", "rows", right=("rows",))
        for count, right, given in sorted(mistakes, key=lambda mistake: -mistake[0])[:MOST_COLUMNS]:
            table.add_row(Text(right), Text(given), f"{count:,}")
        return table
    table = grid("true label, by answer:")
    for name in names:
        table.add_column(Text(name), justify="right")
    for at, (name, row) in enumerate(zip(names, confusion)):
        cells = [Text(f"{count:,}", style="bold green" if at == column else "") for column, count in enumerate(row)]
        table.add_row(Text(name), *cells)
    return table
