"""Whole models in one process, one after the other on one text, without HTTP: what merged checkpoints cost.

    python copies.py BACKBONE NUM_MODELS TIMES TEXT…

Prints a line of JSON: for each text the seconds of each time, and the memory (PSS) in MB.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch

from polytask.adapters.module import encode_batch
from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.data.batches import collate
from polytask.data.encoding import encode
from polytask.data.task import Rows

MAX_LENGTH = 128


@torch.inference_mode()
def answer(models: list[Backbone], text: str) -> float:
    """Seconds that all models take for a text."""
    start = time.perf_counter()
    limit = min(MAX_LENGTH, models[0].max_length)
    batch = collate([(encode(models[0].tokenizer, Rows([text]), limit), [0])], 0, models[0].device)
    for model in models:
        with model.one_pass(training=False):
            encode_batch(model, batch)
    return time.perf_counter() - start


def main() -> None:
    name, number, times, *texts = sys.argv[1:]
    models = [load_backbone(name, device="cpu") for _ in range(int(number))]
    answer(models, texts[0])
    seconds = [[answer(models, text) for _ in range(int(times))] for text in texts]
    pss = next(line for line in Path("/proc/self/smaps_rollup").read_text().splitlines() if line.startswith("Pss:"))
    print(json.dumps({"seconds": seconds, "memory_mb": round(int(pss.split()[1]) / 1024, 1)}))


if __name__ == "__main__":
    main()
