"""Shared code of the peers' contenders. Their loop is ``polytask.bench.reference_loop``, which needs torch only.

Precision is ``float32``, ``autocast`` (bf16) or ``bfloat16`` (the frozen weights held so); attention is the library's
own choice, ``eager`` or ``sdpa``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from polytask.bench.reference_loop import Inputs, PlainTraining, Work, inputs_of, precision


def read_work(settings: dict[str, Any]) -> Work:
    """The rows and their batches."""
    work: Work = json.loads(Path(settings["work"]).read_text())
    return work


def loading(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings as arguments of ``from_pretrained``."""
    chosen: dict[str, Any] = {}
    if settings.get("attention"):
        chosen["attn_implementation"] = settings["attention"]
    if settings["precision"] == "bfloat16":
        chosen["torch_dtype"] = torch.bfloat16
    return chosen


def training(model: nn.Module, settings: dict[str, Any]) -> tuple[Callable[[int], float], dict[str, Any]]:
    """What trains ``model`` on a batch and gives its loss, and how many parameters outside the head it trains."""
    work, plain = read_work(settings), PlainTraining(model, settings["device"])
    batches = work["orders"][settings["order"]]
    return lambda batch: plain.step(work, batches[batch], settings["precision"]), {"trained": plain.num_trained}


def answering(
    model: nn.Module, settings: dict[str, Any], forwards: Callable[[list[int], Inputs], list[Tensor]]
) -> tuple[Callable[[int], float], dict[str, Any]]:
    """What answers a batch; ``forwards`` gives the logits of its rows from the whole batch's inputs."""
    work, device = read_work(settings), settings["device"]
    model.to(device).eval()
    batches = work["orders"][settings["order"]]

    @torch.inference_mode()
    def answer(batch: int) -> float:
        rows = batches[batch]
        with precision(settings["precision"], device):
            logits = forwards(rows, inputs_of(work, rows, device))
        return float(sum(part.float().cpu().sum() for part in logits))

    return answer, {}


def one_forward_a_task(inputs: Inputs, rows_each: int) -> list[tuple[int, Inputs]]:
    """The rows of each task with its number; the batch has ``rows_each`` of each, in the tasks' order.

    Each task's rows are cut to its own longest.
    """
    parts = []
    for task, start in enumerate(range(0, len(inputs["input_ids"]), rows_each)):
        mask = inputs["attention_mask"][start : start + rows_each]
        width = int(mask.sum(dim=1).max())
        parts.append((task, {name: t[start : start + rows_each, :width] for name, t in inputs.items()}))
    return parts
