"""``polytask bench``: how fast it is on this machine, beside what one has."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from polytask.cli import console, options, wording
from polytask.cli.options import INTERRUPTED, app, emit, examples, loaded, refused
from polytask.errors import RecipeError, UnknownName

if TYPE_CHECKING:
    from rich.table import Table

    from polytask.backbones.backbone import Backbone
    from polytask.bench.answering import Answered
    from polytask.bench.training import Trained

FOR_ANSWERING = 0.15
"""The share of the time that answering takes; it has far less to do."""

READING = (
    "A ratio says how many times as fast Polytask is: the tokens of the texts in a second, without padding. fp32 with "
    "batches as they come is how the others train unless told otherwise; autocast with rows grouped by length is "
    "their best. Dropout is on, the weights and texts are the same, and all take turns; a tenth more or less is noise."
)


@app.command(epilog=examples("polytask bench", "polytask bench --backbone bert-base-uncased --seconds 600 --json"))
def bench(
    backbone: options.BackboneName = "minilm",
    texts: Annotated[
        str, typer.Option("--texts", help="Whose lengths the texts have: sst2 (short), mrpc, newsgroups (long).")
    ] = "sst2,newsgroups",
    seconds: Annotated[
        float, typer.Option("--seconds", help="How long it may take; the more, the less noise.")
    ] = 120.0,
    threads: Annotated[int | None, typer.Option("--threads", help="Of the CPU; all cores unless given.")] = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Measure training and answering on this machine, beside plain transformers and what else is installed."""
    started = time.perf_counter()
    with options.working("loading torch and transformers"):
        import torch

        from polytask.bench.answering import Answered
        from polytask.bench.training import Trained
        from polytask.bench.workload import TEXTS
        from polytask.training.result import environment

    kinds = [kind.strip() for kind in texts.split(",")]
    for kind in kinds:
        if kind not in TEXTS:
            raise UnknownName("kind of texts", kind, TEXTS)
    if threads is not None and not 1 <= threads <= 4 * (os.cpu_count() or 1):
        raise RecipeError(f"--threads {threads}: this machine has {os.cpu_count()} cores")
    if threads is not None:
        torch.set_num_threads(threads)
    frozen = loaded(backbone, device, dtype)
    trained: list[Trained] = []
    answered: list[Answered] = []
    missing: dict[str, str] = {}
    is_whole = True
    try:
        with moving(seconds, started) as told, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other libraries, about themselves
            left = seconds - (time.perf_counter() - started)
            for part in measured(frozen, kinds, left, missing, told):
                trained += [rate for rate in part if isinstance(rate, Trained)]
                answered += [rate for rate in part if isinstance(rate, Answered)]
    except KeyboardInterrupt:
        if not trained:
            raise
        is_whole = False
    where = environment(frozen.device, frozen.dtype)
    where["versions"] |= versions({rate.library for rate in trained} - {"polytask"})
    if as_json:
        emit(
            {
                "backbone": frozen.name,
                "environment": where,
                "seconds": round(time.perf_counter() - started, 1),
                "training": [{**asdict(rate), "ours_over_this": ratios(rate, trained)} for rate in trained],
                "answering": [{**asdict(rate), "mixed_over_this": over(rate, answered)} for rate in answered],
                "not_measured": missing,
                "is_whole": is_whole,
            }
        )
        end(is_whole)
        return
    out = console.terminal()
    for kind in dict.fromkeys(rate.texts for rate in trained):
        out.print(training_table(kind, trained))
    if answered:
        out.print(answering_table(list(dict.fromkeys(rate.texts for rate in answered)), answered))
    out.print(READING, style="dim")
    for library, reason in missing.items():
        out.print(f"{library} was not measured: {reason}.", style="dim")
    out.print(described(frozen, where, time.perf_counter() - started), style="dim")
    end(is_whole)


def end(is_whole: bool) -> None:
    """Say that there would have been more."""
    if not is_whole:
        raise refused("interrupted: these are the parts that were over", INTERRUPTED)


def measured(
    backbone: Backbone, kinds: Sequence[str], seconds: float, missing: dict[str, str], told: Callable[[str], None]
) -> Iterator[Sequence[Trained | Answered]]:
    """A part after the other, in about so many seconds; long texts get more than short ones.

    On a machine that is busy or slow each part takes what one round of it takes. What cannot be measured goes into
    ``missing``.
    """
    from polytask.bench.answering import answering_rates
    from polytask.bench.training import Others, training_rates
    from polytask.bench.workload import TEXTS

    started = time.perf_counter()
    told("loading the others")
    others = Others(backbone)
    missing |= others.missing
    left = seconds - (time.perf_counter() - started)
    means = {kind: sum(TEXTS[kind].vigintiles) for kind in kinds}
    shares = {kind: 0.5 * (1 / len(kinds) + mean / sum(means.values())) for kind, mean in means.items()}
    for kind in kinds:
        own = left * (1 - FOR_ANSWERING) * shares[kind]
        yield training_rates(backbone, others, kind, own, partial(told, f"training, {kind}"))
    for kind in kinds:
        own = left * FOR_ANSWERING * shares[kind]
        yield answering_rates(backbone, kind, own, partial(told, f"answering, {kind}"))


def ratios(rate: Trained, trained: Sequence[Trained]) -> dict[str, float]:
    """Our rates over this one, by what we train."""
    ours = [one for one in trained if (one.library, one.texts) == ("polytask", rate.texts)]
    return {one.trains: one.tokens_per_s / rate.tokens_per_s for one in ours}


def over(rate: Answered, answered: Sequence[Answered]) -> float:
    """The rate of the mixed batch over this one."""
    (mixed,) = (one for one in answered if (one.route, one.texts) == ("mixed", rate.texts))
    return mixed.texts_per_s / rate.texts_per_s


def training_table(kind: str, trained: Sequence[Trained]) -> Table:
    """One line a contender with its rate, and how ours compare."""
    from polytask.bench.workload import TEXTS

    numbers = ("padding", "tokens/s", "Houlsby is", "LoRA is")
    mean = sum(TEXTS[kind].vigintiles) / len(TEXTS[kind].vigintiles)
    title = f"Training with texts as long as those of {short(kind)}: {mean:.0f} tokens"
    table = console.grid("library", "trains", "precision", *numbers, right=numbers, title=title)
    for rate in trained:
        if rate.texts == kind:
            is_ours = rate.library == "polytask"
            over = ("", "") if is_ours else (f"{ratio:.1f}×" for ratio in ratios(rate, trained).values())
            own = (f"{rate.padding:.0%}", f"{rate.tokens_per_s:,.0f}", *over)
            table.add_row(rate.library, rate.trains, rate.setting, *own, style="bold" if is_ours else "")
    return table


def answering_table(kinds: Sequence[str], answered: Sequence[Answered]) -> Table:
    """One line a route."""
    from polytask.bench.answering import NUM_TASKS, ROUTES

    heads = [f"{name}\n{what}" for name in map(short, kinds) for what in ("texts/s", "mixed is")]
    table = console.grid(f"answering {NUM_TASKS} texts of as many tasks", *heads, right=heads)
    for route, words in ROUTES.items():
        cells: list[str] = []
        for kind in kinds:
            (rate,) = (one for one in answered if (one.route, one.texts) == (route, kind))
            cells += [f"{rate.texts_per_s:,.0f}", "" if route == "mixed" else f"{over(rate, answered):.2f}×"]
        table.add_row(words, *cells, style="bold" if route == "mixed" else "")
    return table


def short(kind: str) -> str:
    """``SST-2``: a kind of text in a column's head."""
    from polytask.bench.workload import TEXTS

    return TEXTS[kind].data.replace("_", " ")


def versions(libraries: set[str]) -> dict[str, str]:
    """Of these libraries."""
    from importlib.metadata import version

    return {library: version(library) for library in sorted(libraries)}


def described(backbone: Backbone, where: Mapping[str, Any], seconds: float) -> str:
    """Hardware and versions."""
    numbers = where["versions"]
    named = ", ".join(f"{name} {numbers[name]}" for name in numbers if name not in ("tokenizers", "safetensors"))
    cores = f"{wording.counted(where['threads'], 'thread')} of {where['cores']} cores"
    machine = f"{where['hardware']} ({where['device']}, {cores})"
    return f"{backbone.name} in {where['dtype']} on {machine}; {named}; {wording.seconds_in_words(seconds)}"


@contextmanager
def moving(seconds: float, started: float) -> Iterator[Callable[[str], None]]:
    """A bar of the time there is; in a log, a line a part."""
    out = console.terminal(stderr=True)
    if not out.is_terminal:
        seen: set[str] = set()

        def tell(what: str) -> None:
            if what not in seen:
                seen.add(what)
                out.print(what, style="dim")

        yield tell
        return
    columns = (TextColumn("{task.description}", style="bold"), BarColumn(bar_width=40), TimeElapsedColumn())
    with Progress(*columns, console=out, transient=True) as bar:
        row = bar.add_task("", total=seconds)

        def move(what: str) -> None:
            bar.update(row, description=what, completed=min(seconds, time.perf_counter() - started))

        yield move
