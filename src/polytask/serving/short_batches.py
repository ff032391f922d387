"""Computes short batches with one thread where that is faster: sharing so little work costs more than it saves.

The number of threads does not change the bits of an answer. This was tried for batches in bfloat16 and int8, and for
heads, which are float32, with up to four rows. A longer float32 product may be rounded differently.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch

from polytask.adapters.module import encode_batch
from polytask.backbones.backbone import Backbone
from polytask.data.batches import Batch
from polytask.data.encoding import Encoded

SIZES = (16, 32, 64, 128)
"""Numbers of tokens that are tried, in this order."""
TIMES = 5
MAX_ROWS = 4


@contextmanager
def num_threads(number: int) -> Iterator[None]:
    """Within the block, torch computes with so many threads in this thread.

    Other threads keep their number, except those that compute for the first time within the block: they take this one.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def is_short(texts: Sequence[Encoded], max_tokens: int) -> bool:
    """Whether texts have few enough tokens, and heads with few rows. The head of questions has a row for each token."""
    if len(texts) > MAX_ROWS or any(text.windows is not None for text in texts):
        return False
    ids = [ids for text in texts for ids in text.ids]
    return len(ids) <= MAX_ROWS and sum(map(len, ids)) <= max_tokens


def max_short_tokens(backbone: Backbone) -> int:
    """The largest number of tokens, of those tried, that one thread computes at least as fast as all; measured.

    0 if there is one thread only, on a GPU, in float32, or if the backbone is so large that threads always save time.
    """
    if torch.get_num_threads() == 1 or backbone.device.type != "cpu" or backbone.dtype != torch.bfloat16:
        return 0
    found = 0
    for size in SIZES:
        if size > backbone.max_length or not _is_faster_alone(partial(_run, backbone, size)):
            break
        found = size
    return found


def _is_faster_alone(run: Callable[[], object]) -> bool:
    """Whether one thread is at least as fast as all. The shortest times count, because the machine may be busy."""
    alone, together = 1, torch.get_num_threads()
    seconds = dict.fromkeys((alone, together), float("inf"))
    for _ in range(TIMES):
        for number in (together, alone):
            with num_threads(number):
                start = time.perf_counter()
                run()
                seconds[number] = min(seconds[number], time.perf_counter() - start)
    return seconds[alone] <= seconds[together]


@torch.inference_mode()
def _run(backbone: Backbone, num_tokens: int) -> None:
    """A forward pass with one text of so many tokens."""
    ids = torch.full((1, num_tokens), backbone.tokenizer.pad_token_id or 0)
    with backbone.one_pass(training=False):
        encode_batch(backbone, Batch(ids, torch.ones_like(ids), torch.zeros_like(ids)))
