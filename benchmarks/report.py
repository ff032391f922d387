"""Writes the tables of docs/performance.md from the CSVs, so that no figure there is typed by hand.

A table is between ``<!-- speed: NAME -->`` and ``<!-- end -->``; text outside the tables is written by hand and is not
changed. A table has the figures of every folder of results/speed/, one per machine.

    python benchmarks/report.py
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from documents import rewrite, tables_of, with_tables

BLOCK = tables_of("speed")
Row = dict[str, str]


@dataclass(frozen=True)
class Exhibit:
    """A table: its file, the command that measures it, what it shows, and columns of the file under their headings."""

    file: str
    command: str
    shows: str
    columns: dict[str, str]


EXHIBITS = {
    "train": Exhibit(
        "train.csv",
        "python benchmarks/train_speed.py",
        "One line a contender. Tokens are those of the texts; a batch of so many has, padded, so many. "
        "`ours ×` is our rate with the same method over this line's, `Houlsby ×` that of our Houlsby adapters whatever "
        "the line trains, `norms frozen ×` that without our LayerNorms, as adapters has it.",
        {
            "model": "model",
            "texts": "texts",
            "method": "method",
            "library": "library",
            "setting": "setting",
            "tokens/s": "tokens_per_s",
            "ms a step": "ms_a_step",
            "tokens a batch": "tokens_a_batch",
            "padded": "padded_tokens_a_batch",
            "ours ×": "ours_over_this",
            "Houlsby ×": "our_houlsby_over_this",
            "norms frozen ×": "our_norms_frozen_over_this",
        },
    ),
    "fused": Exhibit(
        "fused.csv",
        "python benchmarks/fused.py",
        "One line a batch size (rows a job and step) and length. Milliseconds are those of one step of all jobs.",
        {
            "model": "model",
            "jobs": "jobs",
            "tokens a text": "tokens_a_text",
            "rows a job": "batch_size",
            "fused, ms": "fused_ms_a_step",
            "one after another, ms": "one_after_another_ms_a_step",
            "fused is ×": "speedup",
        },
    ),
    "prefix": Exhibit(
        "prefix.csv",
        "python benchmarks/prefix.py",
        "One line a kind of text: adapters in the top third of the layers. Tokens a second in epochs after the first, "
        "with what the frozen layers below put out kept; and over the same uncached, and over adapters in all layers.",
        {
            "model": "model",
            "texts": "texts",
            "layers": "layers",
            "kept, tokens/s": "kept_tokens_a_s",
            "uncached": "uncached_tokens_a_s",
            "all layers": "all_layers_tokens_a_s",
            "kept to uncached ×": "kept_to_uncached",
            "kept to all layers ×": "kept_to_all_layers",
            "first epoch ×": "first_epoch_to_uncached",
            "kept, MB": "cache_mb",
        },
    ),
    "mixed": Exhibit(
        "mixed.csv",
        "python benchmarks/mixed_inference.py",
        "One line a contender. A batch has `rows` texts of each of the tasks; `ours mixed ×` is how many times as fast "
        "our mixed batch with the same method is as this line.",
        {
            "model": "model",
            "texts": "texts",
            "tasks": "tasks",
            "rows": "rows_each",
            "method": "method",
            "library": "library",
            "setting": "setting",
            "answers": "route",
            "texts/s": "texts_per_s",
            "ours mixed ×": "ours_mixed_over_this",
        },
    ),
    "memory": Exhibit(
        "memory.csv",
        "python benchmarks/memory.py --only training",
        "One line a contender, each a fresh process: what it holds once loaded, its peak in training, and the "
        "difference.",
        {
            "model": "model",
            "texts": "texts",
            "method": "method",
            "library": "library",
            "setting": "setting",
            "loaded, MiB": "loaded_mib",
            "peak, MiB": "peak_mib",
            "training, MiB": "training_mib",
        },
    ),
    "adapters": Exhibit(
        "adapters.csv",
        "python benchmarks/memory.py --only adapters",
        "Houlsby-64 adapters of one store, all of them loaded. Switching is what another adapter than the last one "
        "adds to an answer; a cold start is a new process until its first answer.",
        {
            "model": "model",
            "adapters": "adapters",
            "file, KiB": "file_kib",
            "memory, KiB each": "memory_kib_an_adapter",
            "memory over file": "memory_over_file",
            "load, ms each": "load_ms_an_adapter",
            "answer, ms": "answer_ms_same_adapter",
            "switch, ms": "switch_ms",
            "cold start, s": "cold_start_s",
        },
    ),
    "products": Exhibit(
        "products.csv",
        "python benchmarks/products.py",
        "`M` rows times tokens, a weight of `K` by `N`, bf16: µs a product with the weight as it is and with the "
        "weight laid out once as the matrix unit reads it, and the rate of the latter.",
        {
            "threads": "threads",
            "model": "model",
            "M": "M",
            "K": "K",
            "N": "N",
            "ordinary, µs": "ordinary_us",
            "packed, µs": "packed_us",
            "packed, GFLOP/s": "packed_gflops",
            "packed is ×": "packed_is",
        },
    ),
    "attending": Exhibit(
        "attending.csv",
        "python benchmarks/attending.py",
        "Attention without gradients, 12 heads: torch's own, products around its softmax, and products around "
        "exponentials, as we do; and how far each is from the answer in float64.",
        {
            "model": "model",
            "dtype": "dtype",
            "texts": "texts",
            "tokens": "tokens",
            "torch's, ms": "fused_ms",
            "softmax": "softmax_ms",
            "exponentials": "exponentials_ms",
            "exponentials are ×": "exponentials_are",
            "torch's error": "fused_error",
            "error": "exponentials_error",
        },
    ),
    "looped-norms": Exhibit(
        "looped-norms.csv",
        "python benchmarks/looped_norms.py",
        "A batch has `rows` texts of each of the tasks, Houlsby-64 on MiniLM: milliseconds with LayerNorms one adapter "
        "after another, and with those of adapters with few tokens stacked.",
        {
            "texts": "texts",
            "dtype": "dtype",
            "tasks": "tasks",
            "rows": "rows_each",
            "looped, ms": "looped_ms",
            "stacked, ms": "stacked_ms",
            "looped over stacked": "looped_over_stacked",
        },
    ),
    "versions": Exhibit(
        "versions.csv",
        "python benchmarks/versions.py FOLDER_OF_THE_EARLIER_VERSION",
        "Medians, and the median of the paired ratios with quartiles.",
        {
            "work": "work",
            "dtype": "dtype",
            "before, ms": "before_ms",
            "after, ms": "after_ms",
            "after over before": "after_over_before",
            "quartiles": "quartiles",
        },
    ),
    "changing-tasks": Exhibit(
        "changing-tasks.csv",
        "python benchmarks/changing_tasks.py",
        "MiniLM, Houlsby-64, texts as short as SST-2's. A batch has texts of `tasks` of the loaded tasks: "
        "others in each batch, the same in each, or one task for all rows.",
        {
            "loaded": "loaded",
            "tasks": "tasks",
            "rows": "rows_each",
            "dtype": "dtype",
            "tasks are": "tasks_are",
            "ms a batch": "ms_a_batch",
            "one over this": "one_over_this",
        },
    ),
    "time-to-accuracy": Exhibit(
        "time-to-accuracy.csv",
        "python benchmarks/time_to_accuracy.py --data DIR",
        "Seconds until the best validation accuracy of a peer is reached, scoring after each epoch included: the peer "
        "by its documented recipe (`best`: in bf16 with rows grouped by length), ours by `Recipe()`. `whole` is our "
        "whole training.",
        {
            "task": "task",
            "rows": "rows",
            "peer": "peer",
            "seeds": "seeds",
            "peer's best": "peer_best",
            "our best": "our_best",
            "peer, s": "peer_s",
            "ours, s": "our_s",
            "whole, s": "our_whole_s",
            "reached": "reached",
            "× as fast": "times_as_fast",
        },
    ),
    "int8": Exhibit(
        "int8.csv",
        "python benchmarks/int8.py",
        "MiniLM, texts as short as SST-2's sorted by length and texts of 256 tokens. `one` is one Houlsby-64 adapter "
        "for all rows, `mixed` 26 of them in a batch, `bare` the encoder alone; `× ONNX int8` is the rate over that of "
        "ONNX Runtime in int8 with the same (for `mixed`, with one adapter).",
        {
            "texts": "texts",
            "contender": "contender",
            "texts/s": "texts_per_s",
            "× ONNX int8": "over_onnxruntime_int8",
            "rounds": "rounds",
        },
    ),
    "int8-quality": Exhibit(
        "int8-quality.csv",
        "python benchmarks/int8.py --data DIR",
        "One adapter a task, scored on the same rows; agreement is the share of the labels of fp32, in per cent.",
        {
            "task": "task",
            "rows": "rows",
            "contender": "contender",
            "metric": "metric",
            "score": "score",
            "agreement": "agreement",
        },
    ),
    "long-text": Exhibit(
        "long-text.csv",
        "python benchmarks/long_text.py",
        "One text of so many MB to the tokens that are read of it: a beginning cut before it becomes tokens, and the "
        "whole text made into tokens of which the rest is thrown away.",
        {
            "MB": "megabytes",
            "tokens read": "tokens_read",
            "cut, s": "cut_s",
            "whole, s": "whole_s",
            "whole over cut": "whole_over_cut",
            "same tokens": "same",
        },
    ),
    "growth": Exhibit(
        "growth.csv",
        "python benchmarks/growth.py",
        "Each line is a process. `loaded`: Houlsby-64 adapters (`loaded_small`: of size 8) loaded one after another, "
        "then an answer and a batch of 26 tasks; `store`: versions put, a hundred to a task; `answered`: rows of a "
        "generator; `read`: rows of a CSV read, and written with an answer; `backbones`: BERT of 6 × 384, 12 × 768 and "
        "24 × 1,024, an epoch of four steps (size: millions of parameters in layers). Times are processor time; the "
        "exponent is the slope of log(time) over log(size) from the line before: 1 is linear. Memory is what the work "
        "added (`store`, `backbones`: of the process).",
        {
            "part": "part",
            "count": "count",
            "size": "size",
            "s": "processor_s",
            "µs an item": "an_item_us",
            "exponent": "exponent",
            "memory, MiB": "memory_mib",
            "and": "more",
        },
    ),
    "gpu-equal": Exhibit(
        "gpu-equal.csv",
        "python benchmarks/gpu.py",
        "The distance of answers and of one training step from those of the CPU in fp32, over their norm.",
        {"model": "model", "dtype": "dtype", "what": "what", "relative error": "relative_error"},
    ),
    "gpu-train": Exhibit(
        "gpu-train.csv",
        "python benchmarks/gpu.py",
        "One line a contender, in one process; `ours ×` as in Training.",
        {
            "model": "model",
            "texts": "texts",
            "library": "library",
            "trains": "trains",
            "setting": "setting",
            "tokens/s": "tokens_per_s",
            "ms a step": "ms_a_step",
            "ours ×": "ours_over_this",
        },
    ),
    "gpu-fused": Exhibit(
        "gpu-fused.csv",
        "python benchmarks/gpu.py",
        "Milliseconds of one step of all jobs.",
        {
            "model": "model",
            "texts": "texts",
            "jobs": "jobs",
            "rows a job": "rows_a_job",
            "fused, ms": "fused_ms_a_step",
            "one after another, ms": "one_after_another_ms_a_step",
            "fused is ×": "speedup",
        },
    ),
    "gpu-mixed": Exhibit(
        "gpu-mixed.csv",
        "python benchmarks/gpu.py",
        "A batch has one text of each task.",
        {
            "model": "model",
            "texts": "texts",
            "tasks": "tasks",
            "answers": "route",
            "texts/s": "texts_per_s",
            "ms a batch": "ms_a_batch",
            "mixed ×": "mixed_over_this",
        },
    ),
    "gpu-memory": Exhibit(
        "gpu-memory.csv",
        "python benchmarks/gpu.py",
        "The most memory of the GPU in training steps.",
        {
            "model": "model",
            "library": "library",
            "jobs": "jobs",
            "loaded, MiB": "loaded_mib",
            "peak, MiB": "peak_mib",
        },
    ),
    "softmax": Exhibit(
        "softmax.csv",
        "python benchmarks/sizes.py",
        "Torch's softmax over rows of so many bf16 numbers, 312 times as many rows; `grid` is how long we make them.",
        {"tokens": "tokens", "softmax, ms": "softmax_ms", "ns a number": "ns_a_number", "grid": "grid"},
    ),
    "new-sizes": Exhibit(
        "new-sizes.csv",
        "python benchmarks/sizes.py",
        "A bf16 product of `[M, 384] × [384, 1536]` (`backward`: with the weight as it is): µs when this `M` comes for "
        "the first time, and later.",
        {
            "product": "product",
            "first, µs": "first_us",
            "later, µs": "later_us",
            "first over later": "first_over_later",
        },
    ),
    "noise": Exhibit(
        "noise.csv",
        "python benchmarks/noise.py",
        "Milliseconds to drop a tenth of so many bf16 numbers: by our masks, by torch's dropout, by masks of numbers "
        "drawn one by one.",
        {
            "numbers": "numbers",
            "ours, ms": "ours_ms",
            "torch, ms": "torch_ms",
            "drawn, ms": "drawn_ms",
            "torch over ours ×": "torch_over_ours",
            "drawn over ours ×": "drawn_over_ours",
        },
    ),
    "noise-checks": Exhibit(
        "noise-checks.csv",
        "python benchmarks/noise.py",
        "What is dropped, held against a binomial: the rate in standard errors, the variance of sums as a share of the "
        "binomial's, the largest correlation of two rows, columns or masks in standard errors beside what independent "
        "ones have, and the correlation of four corners of rectangles in our table of words.",
        {
            "masks": "masks",
            "shape": "shape",
            "rate off by": "rate_off_by",
            "row sums": "row_sum_variance",
            "column sums": "column_sum_variance",
            "rows": "between_rows",
            "expected": "rows_expected",
            "columns": "between_columns",
            "expected ": "columns_expected",
            "sites and steps": "between_sites_and_steps",
            "expected  ": "masks_expected",
            "rectangles": "rectangles",
        },
    ),
}


def chosen(rows: Sequence[Row], **wanted: str) -> list[Row]:
    """The rows with these values."""
    return [row for row in rows if all(row[column] == value for column, value in wanted.items())]


def ratios(rows: Sequence[Row], column: str) -> list[float]:
    """A column's numbers."""
    return [float(row[column]) for row in rows if row.get(column)]


def against_best(rows: Sequence[Row], library: str, method: str, column: str = "ours_over_this") -> list[float]:
    """Ours over the fastest setting of a peer, for each model and kind of text."""
    theirs = chosen(rows, library=library, method=method)
    places = dict.fromkeys((row["model"], row["texts"]) for row in theirs)
    return [min(ratios(chosen(theirs, model=model, texts=texts), column)) for model, texts in places]


def against_default(rows: Sequence[Row], library: str, method: str) -> list[float]:
    """Ours over a peer as it is unless told otherwise."""
    return ratios(chosen(rows, library=library, method=method, setting="default"), "ours_over_this")


def by_length(rows: Sequence[Row], pick: Callable[[list[int]], int]) -> list[float]:
    """Fused over one after another, at the shortest or longest texts."""
    length = pick([int(row["tokens_a_text"]) for row in rows])
    return ratios(chosen(rows, tokens_a_text=str(length)), "speedup")


def mixed_over(rows: Sequence[Row], library: str, route: str, method: str) -> list[float]:
    """Our mixed batch over the fastest of these, for each model, kind of text and number of rows."""
    theirs = chosen(rows, library=library, route=route, method=method)
    places = dict.fromkeys((row["model"], row["texts"], row["rows_each"]) for row in theirs)
    return [
        min(ratios(chosen(theirs, model=model, texts=texts, rows_each=each), "ours_mixed_over_this"))
        for model, texts, each in places
    ]


def peak_over(rows: Sequence[Row], method: str, library: str) -> list[float]:
    """Our peak over the least of a peer's."""
    ours, theirs = (chosen(rows, library=name, method=method) for name in ("polytask", library))
    least = [min(ratios(theirs, "peak_mib"))] if theirs else []
    return [own / peer for own in ratios(ours, "peak_mib") for peer in least]


ONE, APART, ALL = "one adapter for all rows", "one forward pass a task", "all tasks in one batch"
SUMMARY: tuple[tuple[str, str, str, Callable[[list[Row]], list[float]]], ...] = (
    (
        "Houlsby-64, training: over the best of adapters",
        "1.6, aim 2.5",
        "train",
        lambda r: against_best(r, "adapters", "houlsby"),
    ),
    ("… over its default", "aim 4", "train", lambda r: against_default(r, "adapters", "houlsby")),
    ("LoRA-8, training: over the best of peft", "1.6, aim 2.5", "train", lambda r: against_best(r, "peft", "lora")),
    ("… over its default", "aim 4", "train", lambda r: against_default(r, "peft", "lora")),
    (
        "Houlsby-64 over full fine-tuning at its best",
        "",
        "train",
        lambda r: against_best(r, "transformers", "full", "our_houlsby_over_this"),
    ),
    ("8 jobs fused over one after another, short texts", "1.4", "fused", lambda r: by_length(r, min)),
    ("… long texts", "1", "fused", lambda r: by_length(r, max)),
    ("top third, prefix kept, over the same uncached", "1.8", "prefix", lambda r: ratios(r, "kept_to_uncached")),
    ("… over adapters in all layers", "2.5", "prefix", lambda r: ratios(r, "kept_to_all_layers")),
    ("26 tasks mixed over one adapter", "0.95", "mixed", lambda r: mixed_over(r, "polytask", ONE, "houlsby")),
    ("… over BatchSplit of adapters at its best", "1.5", "mixed", lambda r: mixed_over(r, "adapters", ALL, "houlsby")),
    ("… over a mixed batch of peft at its best (LoRA)", "2", "mixed", lambda r: mixed_over(r, "peft", ALL, "lora")),
    ("… over one forward pass a task", "4", "mixed", lambda r: mixed_over(r, "polytask", APART, "houlsby")),
    ("memory of a loaded adapter over its file", "at most 1.1", "adapters", lambda r: ratios(r, "memory_over_file")),
    (
        "peak memory of training Houlsby-64 over adapters' least",
        "at most 1",
        "memory",
        lambda r: peak_over(r, "houlsby", "adapters"),
    ),
    ("peak memory of training LoRA-8 over peft's least", "at most 1", "memory", lambda r: peak_over(r, "lora", "peft")),
)
"""What was aimed at, and the ratios that say whether it was reached."""


def read(path: Path) -> list[Row]:
    """The rows of a CSV; none where it is not there."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """In Markdown."""
    lines = [[head.strip() for head in heads], ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def drawn(exhibit: Exhibit, rows: Sequence[Row]) -> str:
    """One machine's table, without columns that are missing or empty in the file."""
    columns = {head: column for head, column in exhibit.columns.items() if any(row.get(column) for row in rows)}
    return table(list(columns), [[row.get(column) or "" for column in columns.values()] for row in rows])


def versions(rows: Sequence[Row]) -> str:
    """The versions of the libraries, from the rows."""
    found = sorted({package for row in rows for package in (row.get("versions") or "").split()})
    return f"\n\nVersions: {', '.join(found).replace('=', ' ')}." if found else ""


def exhibited(exhibit: Exhibit, machines: Sequence[Path]) -> str:
    """The content of one block."""
    parts = [f"`{exhibit.command}`. {exhibit.shows}"]
    for machine in machines:
        if rows := read(machine / exhibit.file):
            parts.append(f"**{machine.name}**\n\n{drawn(exhibit, rows)}{versions(rows)}")
    return "\n\n".join(parts if len(parts) > 1 else [*parts, "Not measured yet."])


def summed_up(machines: Sequence[Path]) -> str:
    """Every goal, with the lowest and highest ratio of each machine."""
    rows = []
    for what, aim, name, ratios_of in SUMMARY:
        cells = []
        for machine in machines:
            found = read(machine / EXHIBITS[name].file)
            values = ratios_of(found) if found else []
            ends = dict.fromkeys(f"{value:.2f}" for value in (min(values), max(values))) if values else ["–"]
            cells.append(" to ".join(ends))
        rows.append([what, aim, *cells])
    return table(["ratio", "asked", *(machine.name for machine in machines)], rows)


def document(text: str, results: Path) -> str:
    """The text with every table replaced."""
    machines = sorted(path for path in results.glob("*") if path.is_dir())
    tables = {name: partial(exhibited, exhibit, machines) for name, exhibit in EXHIBITS.items()}
    return with_tables(text, "speed", {"summary": partial(summed_up, machines), **tables})


if __name__ == "__main__":
    rewrite(__doc__, document, "docs/performance.md", "results/speed")
