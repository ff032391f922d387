"""Measures inference: tasks mixed in one batch, one adapter for all rows, one pass per task, and the bare backbone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch

from polytask.adapters.attach import Attached
from polytask.adapters.module import LoadedAdapter
from polytask.backbones.backbone import Backbone
from polytask.bench.interleave import MIN_ROUNDS, Run, measure_rounds, medians
from polytask.bench.reference_loop import Work, inputs_of
from polytask.bench.training import synthetic_work
from polytask.bench.workload import num_tokens
from polytask.data.encoding import Encoded
from polytask.inference.scoring import scores_of
from polytask.methods import Houlsby, Method

NUM_TASKS, MAX_BATCHES = 26, 8
ROUTES = {
    "mixed": "all tasks in one batch",
    "one": "one adapter for all rows",
    "apart": "one forward pass per task",
    "bare": "the backbone alone",
}
Answer = Callable[[Sequence[int]], float]


@dataclass(frozen=True)
class AnsweringRate:
    """The speed of inference on one kind of texts by one of ``ROUTES``."""

    texts: str
    route: str
    texts_per_s: float
    tokens_per_s: float
    ms_a_batch: float
    rounds: int
    batches: int


@contextmanager
def answering_functions(
    backbone: Backbone, work: Work, method: Method, num_tasks: int, rows_each: int
) -> Iterator[dict[str, Answer]]:
    """Functions that answer a batch, by the names of ``ROUTES``.

    A batch has ``rows_each`` consecutive rows of each task. The adapters are attached within the block.
    """
    attached = Attached.of(backbone)
    labels = tuple(f"label {label}" for label in range(work["num_labels"]))
    loaded = {}
    for task in range(num_tasks):
        name = f"t{task}"
        loaded[name] = LoadedAdapter(backbone, method, "classification", labels, key=(0, name)).frozen(backbone.dtype)
        attached.add(name, loaded[name].deltas)
    everything = Encoded(work["ids"], work["types"], 0)

    def scores(rows: Sequence[int], names: list[str]) -> float:
        answers = scores_of(backbone, attached, loaded, everything.take(rows), names, batch_tokens=1 << 20)
        return float(sum(answer[0] for answer in answers))

    def mixed(rows: Sequence[int]) -> float:
        return scores(rows, [f"t{at // rows_each}" for at in range(len(rows))])

    def apart(rows: Sequence[int]) -> float:
        starts = range(0, len(rows), rows_each)
        return sum(scores(rows[at : at + rows_each], [f"t{at // rows_each}"] * rows_each) for at in starts)

    def one(rows: Sequence[int]) -> float:
        return scores(rows, ["t0"] * len(rows))

    @torch.inference_mode()
    def bare(rows: Sequence[int]) -> float:
        inputs = inputs_of(work, rows, str(backbone.device))
        with backbone.one_pass(training=False):
            _, pooled = backbone.encoder(inputs["input_ids"], inputs["attention_mask"], inputs["token_type_ids"])
        return float(pooled.float().sum())

    try:
        yield {"mixed": mixed, "one": one, "apart": apart, "bare": bare}
    finally:
        for name in loaded:
            attached.remove(name)


def answering_rates(
    backbone: Backbone, texts: str, seconds: float, on_run: Run = lambda: None, num_tasks: int = NUM_TASKS
) -> list[AnsweringRate]:
    """Measure each route on batches of one text per task, for about ``seconds``, but at least three rounds."""
    started = time.perf_counter()
    work = synthetic_work(backbone, texts, MAX_BATCHES * num_tasks, num_tasks)
    with answering_functions(backbone, work, Houlsby(64), num_tasks, 1) as functions:
        first = work["orders"]["shuffled"][:1]
        warm_up = [
            measure_seconds(partial(answer_batches, answer, first)) for answer in functions.values() for _ in range(2)
        ]
        left = seconds - (time.perf_counter() - started)
        num_batches = int(left / MIN_ROUNDS / sum(warm_up[1::2]))
        work["orders"]["shuffled"] = work["orders"]["shuffled"][: max(1, num_batches)]
        batches = work["orders"]["shuffled"]
        taken = measure_rounds(
            {name: partial(answer_batches, answer, batches) for name, answer in functions.items()}, left, on_run
        )
    tokens, _ = num_tokens(work, "shuffled")
    num_texts = num_tasks * len(batches)
    return [
        AnsweringRate(texts, route, num_texts / own, tokens / own, 1e3 * own / len(batches), len(taken), len(batches))
        for route, own in medians(taken).items()
    ]


def answer_batches(answer: Answer, batches: Sequence[Sequence[int]]) -> None:
    """Answer every batch once. Answers are copied to the CPU, so the device has finished afterwards."""
    for rows in batches:
        answer(rows)


def measure_seconds(run: Run) -> float:
    """Return the seconds that a run takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
