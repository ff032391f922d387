"""Chooses the precision of frozen weights."""

from __future__ import annotations

import math
import time

import torch

from polytask.errors import UnknownName

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}
INT8 = "int8"
"""Not a type of the weights: what their products run in (``fast.int8``)."""
TRIES = 6


def fastest_dtype(device: torch.device) -> torch.dtype:
    """bf16 if it multiplies matrices at least 1.5 times as fast as fp32, else fp32. Takes milliseconds.

    The types alternate, the best time of each counts, and only CPU time of this thread is measured, so a busy machine
    does not change the choice.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    types = (torch.bfloat16, torch.float32)
    best = dict.fromkeys(types, math.inf)
    for _ in range(TRIES):
        for dtype in types:
            best[dtype] = min(best[dtype], _product_seconds(dtype, device))
    return torch.bfloat16 if best[torch.bfloat16] * 1.5 < best[torch.float32] else torch.float32


def _product_seconds(dtype: torch.dtype, device: torch.device) -> float:
    """The seconds of a matrix product as in a small backbone, after one to warm up."""
    a = torch.ones(256, 384, dtype=dtype, device=device)
    b = torch.ones(384, 1536, dtype=dtype, device=device)
    a @ b
    start = time.thread_time()
    a @ b
    return time.thread_time() - start


def dtype_named(name: str | torch.dtype, device: torch.device) -> torch.dtype:
    """The type of this name; ``auto`` is the faster one on this device.

    Raises:
        UnknownName: there is no such type.
    """
    name = str(name).removeprefix("torch.")
    if name == "auto":
        return fastest_dtype(device)
    if name not in DTYPES:
        raise UnknownName("dtype", name, ("auto", *DTYPES, INT8))
    return DTYPES[name]
