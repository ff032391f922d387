"""What the peers' contenders share: the loop that their documentation shows, without a trainer around it.

Precision is ``float32``, ``autocast`` (bf16) or ``bfloat16`` (the frozen weights held so); attention is the library's
own choice, ``eager`` or ``sdpa``.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

Inputs = dict[str, Tensor]


def read_work(settings: dict[str, Any]) -> dict[str, Any]:
    """The rows and their batches."""
    work: dict[str, Any] = json.loads(Path(settings["work"]).read_text())
    return work


def inputs_of(work: dict[str, Any], rows: Sequence[int], device: str) -> Inputs:
    """A batch padded to its longest row."""
    width = max(len(work["ids"][row]) for row in rows)

    def filled(lists: list[list[int]]) -> Tensor:
        return torch.tensor([items + [0] * (width - len(items)) for items in lists], device=device)

    return {
        "input_ids": filled([work["ids"][row] for row in rows]),
        "attention_mask": filled([[1] * len(work["ids"][row]) for row in rows]),
        "token_type_ids": filled([work["types"][row] for row in rows]),
    }


def loading(settings: dict[str, Any]) -> dict[str, Any]:
    """The arguments of ``from_pretrained`` that the settings mean."""
    chosen: dict[str, Any] = {}
    if settings.get("attention"):
        chosen["attn_implementation"] = settings["attention"]
    if settings["precision"] == "bfloat16":
        chosen["torch_dtype"] = torch.bfloat16
    return chosen


def precision(settings: dict[str, Any]) -> contextlib.AbstractContextManager[Any]:
    """Autocast where it is asked for."""
    if settings["precision"] == "autocast":
        return torch.autocast(settings["device"], dtype=torch.bfloat16)
    return contextlib.nullcontext()


def training(model: nn.Module, settings: dict[str, Any]) -> tuple[Callable[[int], float], dict[str, Any]]:
    """What trains ``model`` on a batch and gives its loss, and how many parameters outside the head it trains.

    AdamW (one fused operation) and gradients cut to a norm of 1, as in the trainer of transformers.
    """
    work, device = read_work(settings), settings["device"]
    model.to(device).train()
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    trained = [p for _, p in named]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.01, fused=True)
    batches = work["orders"][settings["order"]]

    def step(batch: int) -> float:
        rows = batches[batch]
        targets = torch.tensor([work["targets"][row] for row in rows], device=device)
        with precision(settings):
            logits = model(**inputs_of(work, rows, device)).logits
            loss = nn.functional.cross_entropy(logits.float(), targets)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    in_head = ("classifier", "heads.", "score.")
    return step, {"trained": sum(p.numel() for name, p in named if not any(part in name for part in in_head))}


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
        with precision(settings):
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
