"""Synthetic texts with the lengths of known data sets, in two orders of batches.

``grouped`` batches have rows of similar length; ``shuffled`` batches ignore lengths.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from polytask.adapters.attach import Attached
from polytask.backbones.backbone import Backbone
from polytask.bench.reference_loop import Work
from polytask.data.encoding import Encoded
from polytask.data.task import Rows, Task
from polytask.methods import Method
from polytask.training.job import Job
from polytask.training.recipe import Recipe

SYMBOLS = (1000, 30000)
"""The range of token ids from which synthetic texts are drawn; all are ordinary word pieces."""


@dataclass(frozen=True)
class Texts:
    """A data set's name, its number of labels, and the lengths of its texts.

    Attributes:
        vigintiles: the 0%, 5%, …, 100% quantiles of the length in tokens, counted on 3,500 training rows of the
            official files with BERT's uncased tokenizer, including [CLS] and [SEP], truncated at 128.
    """

    data: str
    num_labels: int
    vigintiles: tuple[int, ...]

    def lengths(self, num_rows: int) -> list[int]:
        """Lengths of ``num_rows`` rows, drawn with a fixed seed."""
        draw = random.Random(0)
        return [_length(self.vigintiles, draw.random()) for _ in range(num_rows)]


TEXTS = {
    "sst2": Texts("SST-2", 2, (3, 4, 4, 5, 5, 6, 7, 7, 8, 9, 10, 11, 12, 14, 15, 17, 20, 23, 27, 33, 57)),
    "mrpc": Texts("MRPC", 2, (19, 32, 36, 39, 41, 44, 45, 47, 49, 51, 53, 55, 57, 59, 61, 62, 64, 67, 70, 74, 103)),
    "newsgroups": Texts("20_newsgroups", 20, (45, 110, *(128,) * 19)),
}
MAX_LENGTH = 128


def _length(vigintiles: Sequence[int], share: float) -> int:
    """The length that a fraction ``share`` of the rows does not exceed."""
    at = share * (len(vigintiles) - 1)
    low, high = list(pairwise(vigintiles))[int(at)]
    return max(3, round(low + (high - low) * (at % 1)))


def synthetic(lengths: Sequence[int], num_symbols: int = SYMBOLS[1]) -> Encoded:
    """Rows of these lengths, of random ordinary tokens among the first ``num_symbols`` of a vocabulary."""
    draw, symbols = random.Random(1), range(min(SYMBOLS[0], num_symbols // 2), min(SYMBOLS[1], num_symbols))
    ids = [draw.choices(symbols, k=length) for length in lengths]
    return Encoded(ids, [[0] * length for length in lengths], 0)


def as_work(encoded: Encoded, num_labels: int, batch_size: int) -> Work:
    """The rows with random targets, in batches of both orders."""
    draw = random.Random(2)
    shuffled = draw.sample(range(len(encoded)), len(encoded))
    by_length = sorted(shuffled, key=encoded.lengths.__getitem__)
    grouped = split_into_batches(by_length, batch_size)
    draw.shuffle(grouped)
    return {
        "ids": encoded.ids,
        "types": encoded.types or [[0] * length for length in encoded.lengths],
        "targets": [draw.randrange(num_labels) for _ in encoded.ids],
        "num_labels": num_labels,
        "orders": {"grouped": grouped, "shuffled": split_into_batches(shuffled, batch_size)},
    }


def split_into_batches(rows: Sequence[int], size: int) -> list[list[int]]:
    """Split rows into batches of ``size``."""
    return [list(rows[at : at + size]) for at in range(0, len(rows), size)]


def sample_batches(work: Work, num_batches: int) -> Work:
    """Keep ``num_batches`` batches of each order; those of ``grouped`` are sample_batches evenly over the lengths."""
    by_length = sorted(work["orders"]["grouped"], key=lambda rows: len(work["ids"][rows[-1]]))
    at = [(2 * batch + 1) * len(by_length) // (2 * num_batches) for batch in range(num_batches)]
    orders = {"grouped": [by_length[quantile] for quantile in at], "shuffled": work["orders"]["shuffled"][:num_batches]}
    return {**work, "orders": orders}


def num_tokens(work: Work, order: str) -> tuple[int, int]:
    """The total number of tokens of all batches, without and with padding."""
    lengths = [[len(work["ids"][row]) for row in rows] for rows in work["orders"][order]]
    return sum(map(sum, lengths)), sum(len(of_batch) * max(of_batch) for of_batch in lengths)


class PreparedJob(Job):
    """A job that trains on given rows and batches; ``batch`` is the index of the next one."""

    def __init__(self, backbone: Backbone, work: Work, method: Method, name: str = "task") -> None:
        labels = tuple(f"label {label}" for label in range(work["num_labels"]))
        rows = Rows(["one", "two"], targets=[0, 1])
        task = Task(name, "classification", labels, "accuracy", rows, rows)
        super().__init__(backbone, task, Recipe(method, epochs=1_000_000))
        self.train, self.targets = Encoded(work["ids"], work["types"], 0), list(work["targets"])
        self.batches = work["orders"]["grouped"]
        self.batch = 0
        self.steps_an_epoch = self.num_steps  # no step ends an epoch

    def next_rows(self) -> list[int]:
        """The rows of the next batch."""
        return self.batches[self.batch]


def attached_with(backbone: Backbone, jobs: Sequence[Job]) -> Attached:
    """The backbone with the deltas of these jobs at its sites."""
    attached = Attached.of(backbone)
    for job in jobs:
        if job.live.deltas:
            attached.add(job.name, job.live.deltas)
    return attached
