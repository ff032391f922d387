"""``polytask bench``: measure the speed of this machine, next to plain transformers and other libraries."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from polytask.cli import console, options, wording
from polytask.cli.option_groups import BackboneOptions
from polytask.cli.options import INTERRUPTED, app, error_exit, examples, print_json
from polytask.errors import RecipeError, UnknownName

if TYPE_CHECKING:
    from rich.table import Table

    from polytask.backbones.backbone import Backbone
    from polytask.bench.answering import AnsweringRate
    from polytask.bench.training import TrainingRate

ANSWERING_SHARE = 0.15
"""Share of the time that is spent on inference, which is far faster than training."""

EXPLANATION = (
    "A ratio says how many times as fast Polytask is, in tokens per second without padding. The default of the other "
    "libraries is fp32 with shuffled batches; their best setting is autocast with rows grouped by length. Dropout is "
    "on, weights and texts are the same, and the libraries take turns. Differences of up to a tenth are noise."
)


@dataclass
class Measurements:
    """What has been measured so far.

    Attributes:
        trained: rates of training.
        answered: rates of answering.
        missing: libraries that were not measured, with the reason.
        is_whole: whether nothing was interrupted.
    """

    trained: list[TrainingRate] = field(default_factory=list)
    answered: list[AnsweringRate] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    is_whole: bool = True

    def add(self, rates: Sequence[TrainingRate | AnsweringRate]) -> None:
        """Add the rates of one part."""
        from polytask.bench.training import TrainingRate

        for rate in rates:
            if isinstance(rate, TrainingRate):
                self.trained.append(rate)
            else:
                self.answered.append(rate)


@app.command(epilog=examples("polytask bench", "polytask bench --backbone bert-base-uncased --seconds 600 --json"))
def bench(
    model: BackboneOptions,
    texts: Annotated[
        str,
        typer.Option("--texts", help="Data sets whose text lengths are used: sst2 (short), mrpc, newsgroups (long)."),
    ] = "sst2,newsgroups",
    seconds: Annotated[
        float, typer.Option("--seconds", help="How long to measure; longer runs are less noisy.")
    ] = 120.0,
    threads: Annotated[int | None, typer.Option("--threads", help="CPU threads (default: all cores).")] = None,
    as_json: options.AsJson = False,
) -> None:
    """Measure training and inference on this machine, next to plain transformers and other installed libraries."""
    started = time.perf_counter()
    with options.spinner("loading torch and transformers"):
        from polytask.bench.workload import TEXTS
        from polytask.training.result import environment

    kinds = [kind.strip() for kind in texts.split(",")]
    for kind in kinds:
        if kind not in TEXTS:
            raise UnknownName("kind of texts", kind, TEXTS)
    set_threads(threads)
    backbone = model.load()
    measurements = Measurements()
    try:
        with bench_progress(seconds, started) as show_progress, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # other libraries warn about themselves
            left = seconds - (time.perf_counter() - started)
            for rates in measure_parts(backbone, kinds, left, measurements.missing, show_progress):
                measurements.add(rates)
    except KeyboardInterrupt:
        if not measurements.trained:
            raise
        measurements.is_whole = False
    where = environment(backbone.device, backbone.dtype)
    where["versions"] |= versions({rate.library for rate in measurements.trained} - {"polytask"})
    if as_json:
        print_json(to_json(measurements, backbone, where, time.perf_counter() - started))
    else:
        show(measurements, machine_in_words(backbone, where, time.perf_counter() - started))
    if not measurements.is_whole:
        raise error_exit("interrupted: only these parts were measured", INTERRUPTED)


def set_threads(threads: int | None) -> None:
    """Set the number of CPU threads.

    Raises:
        RecipeError: it is far from the number of cores.
    """
    import torch

    if threads is None:
        return
    if not 1 <= threads <= 4 * (os.cpu_count() or 1):
        raise RecipeError(f"--threads {threads}: this machine has {os.cpu_count()} cores")
    torch.set_num_threads(threads)


def measure_parts(
    backbone: Backbone,
    kinds: Sequence[str],
    seconds: float,
    missing: dict[str, str],
    show_progress: Callable[[str], None],
) -> Iterator[Sequence[TrainingRate | AnsweringRate]]:
    """Measure one part after another, in about ``seconds``; long texts get more time than short ones.

    On a busy or slow machine a part takes at least one round. Libraries that cannot be measured are added to
    ``missing`` with the reason.
    """
    from polytask.bench.answering import answering_rates
    from polytask.bench.training import OtherLibraries, training_rates
    from polytask.bench.workload import TEXTS

    started = time.perf_counter()
    show_progress("loading the other libraries")
    others = OtherLibraries(backbone)
    missing |= others.missing
    left = seconds - (time.perf_counter() - started)
    means = {kind: sum(TEXTS[kind].vigintiles) for kind in kinds}
    shares = {kind: 0.5 * (1 / len(kinds) + mean / sum(means.values())) for kind, mean in means.items()}
    for kind in kinds:
        own = left * (1 - ANSWERING_SHARE) * shares[kind]
        yield training_rates(backbone, others, kind, own, partial(show_progress, f"training, {kind}"))
    for kind in kinds:
        own = left * ANSWERING_SHARE * shares[kind]
        yield answering_rates(backbone, kind, own, partial(show_progress, f"inference, {kind}"))


def to_json(measurements: Measurements, backbone: Backbone, where: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """What ``bench --json`` prints."""
    trained, answered = measurements.trained, measurements.answered
    return {
        "backbone": backbone.name,
        "environment": where,
        "seconds": round(seconds, 1),
        "training": [{**asdict(rate), "ours_over_this": ratios(rate, trained)} for rate in trained],
        "answering": [{**asdict(rate), "mixed_over_this": mixed_ratio(rate, answered)} for rate in answered],
        "not_measured": measurements.missing,
        "is_whole": measurements.is_whole,
    }


def show(measurements: Measurements, machine: str) -> None:
    """Print the tables, how to read them, and the machine."""
    out = console.terminal()
    for kind in dict.fromkeys(rate.texts for rate in measurements.trained):
        out.print(training_table(kind, measurements.trained))
    if measurements.answered:
        out.print(
            answering_table(list(dict.fromkeys(rate.texts for rate in measurements.answered)), measurements.answered)
        )
    out.print(EXPLANATION, style="dim")
    for library, reason in measurements.missing.items():
        out.print(f"{library} was not measured: {reason}.", style="dim")
    out.print(machine, style="dim")


def ratios(rate: TrainingRate, trained: Sequence[TrainingRate]) -> dict[str, float]:
    """The rate of each of Polytask's methods divided by this rate."""
    ours = [one for one in trained if (one.library, one.texts) == ("polytask", rate.texts)]
    return {one.trains: one.tokens_per_s / rate.tokens_per_s for one in ours}


def mixed_ratio(rate: AnsweringRate, answered: Sequence[AnsweringRate]) -> float:
    """The rate of the mixed batch divided by this rate."""
    (mixed,) = (one for one in answered if (one.route, one.texts) == ("mixed", rate.texts))
    return mixed.texts_per_s / rate.texts_per_s


def training_table(kind: str, trained: Sequence[TrainingRate]) -> Table:
    """One line per library and setting, with its rate, and Polytask's rates divided by it."""
    from polytask.bench.workload import TEXTS

    numbers = ("padding", "tokens/s", "Houlsby is", "LoRA is")
    mean = sum(TEXTS[kind].vigintiles) / len(TEXTS[kind].vigintiles)
    title = f"Training on texts with the lengths of {kind_in_words(kind)}, {mean:.0f} tokens on average"
    table = console.grid("library", "trains", "precision", *numbers, right=numbers, title=title)
    for rate in trained:
        if rate.texts == kind:
            is_ours = rate.library == "polytask"
            over = ("", "") if is_ours else (f"{ratio:.1f}×" for ratio in ratios(rate, trained).values())
            own = (f"{rate.padding:.0%}", f"{rate.tokens_per_s:,.0f}", *over)
            table.add_row(rate.library, rate.trains, rate.setting, *own, style="bold" if is_ours else "")
    return table


def answering_table(kinds: Sequence[str], answered: Sequence[AnsweringRate]) -> Table:
    """One line for each way to answer the texts of several tasks."""
    from polytask.bench.answering import NUM_TASKS, ROUTES

    heads = [f"{name}\n{what}" for name in map(kind_in_words, kinds) for what in ("texts/s", "mixed is")]
    table = console.grid(f"inference on {NUM_TASKS} texts, one per task", *heads, right=heads)
    for route, words in ROUTES.items():
        cells: list[str] = []
        for kind in kinds:
            (rate,) = (one for one in answered if (one.route, one.texts) == (route, kind))
            cells += [f"{rate.texts_per_s:,.0f}", "" if route == "mixed" else f"{mixed_ratio(rate, answered):.2f}×"]
        table.add_row(words, *cells, style="bold" if route == "mixed" else "")
    return table


def kind_in_words(kind: str) -> str:
    """The name of the dataset whose text lengths are used: ``SST-2``."""
    from polytask.bench.workload import TEXTS

    return TEXTS[kind].data.replace("_", " ")


def versions(libraries: set[str]) -> dict[str, str]:
    """The installed version of each library."""
    from importlib.metadata import version

    return {library: version(library) for library in sorted(libraries)}


def machine_in_words(backbone: Backbone, where: Mapping[str, Any], seconds: float) -> str:
    """Backbone, hardware, versions and duration in one line."""
    numbers = where["versions"]
    named = ", ".join(f"{name} {numbers[name]}" for name in numbers if name not in ("tokenizers", "safetensors"))
    cores = f"{wording.counted(where['threads'], 'thread')} of {where['cores']} cores"
    machine = f"{where['hardware']} ({where['device']}, {cores})"
    return f"{backbone.name} in {where['dtype']} on {machine}; {named}; {wording.seconds_in_words(seconds)}"


@contextmanager
def bench_progress(seconds: float, started: float) -> Iterator[Callable[[str], None]]:
    """A function that shows what is being measured: a progress bar on a terminal, one line per part in a log."""
    out = console.terminal(stderr=True)
    if not out.is_terminal:
        seen: set[str] = set()

        def show_progress(what: str) -> None:
            if what not in seen:
                seen.add(what)
                out.print(what, style="dim")

        yield show_progress
        return
    columns = (TextColumn("{task.description}", style="bold"), BarColumn(bar_width=40), TimeElapsedColumn())
    with Progress(*columns, console=out, transient=True) as bar:
        row = bar.add_task("", total=seconds)

        def move(what: str) -> None:
            bar.update(row, description=what, completed=min(seconds, time.perf_counter() - started))

        yield move
