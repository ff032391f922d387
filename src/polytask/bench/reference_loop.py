"""The plain training loop that other libraries document, without a trainer, and the rows that it trains on.

It imports torch only, because it also runs in the environments of other libraries (``benchmarks/peers``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TypedDict

import torch
from torch import Tensor, nn

Inputs = dict[str, Tensor]
IN_HEAD = ("classifier", "heads.", "score.")


class Work(TypedDict):
    """A workload as JSON values: rows of token ids, their targets, and the batches of each named order."""

    ids: list[list[int]]
    types: list[list[int]]
    targets: list[int]
    num_labels: int
    orders: dict[str, list[list[int]]]


def inputs_of(work: Work, rows: Sequence[int], device: str, *, with_types: bool = True) -> Inputs:
    """The inputs of a batch, padded to its longest row, each ``[B, T]``."""
    width = max(len(work["ids"][row]) for row in rows)

    def filled(lists: list[list[int]]) -> Tensor:
        return torch.tensor([items + [0] * (width - len(items)) for items in lists], device=device)

    inputs = {
        "input_ids": filled([work["ids"][row] for row in rows]),
        "attention_mask": filled([[1] * len(work["ids"][row]) for row in rows]),
    }
    return inputs | {"token_type_ids": filled([work["types"][row] for row in rows])} if with_types else inputs


def precision(kind: str, device: str) -> contextlib.AbstractContextManager[object]:
    """A context with bf16 autocast if ``kind`` is ``autocast``, else without."""
    if kind == "autocast":
        return torch.autocast(torch.device(device).type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


class PlainTraining:
    """A sequence classification model with its optimizer.

    It uses fused AdamW and clips gradients to a norm of 1, as the trainer of transformers does.
    """

    def __init__(self, model: nn.Module, device: str, *, with_types: bool = True) -> None:
        self.model, self.device, self.with_types = model.to(device).train(), device, with_types
        self.trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.AdamW(list(self.trained.values()), lr=1e-4, weight_decay=0.01, fused=True)

    @property
    def num_trained(self) -> int:
        """Number of trained parameters outside the head."""
        own = (p for name, p in self.trained.items() if not any(part in name for part in IN_HEAD))
        return sum(p.numel() for p in own)

    def step(self, work: Work, rows: Sequence[int], kind: str) -> float:
        """Train on a batch of rows in the precision ``kind``, and return the loss."""
        targets = torch.tensor([work["targets"][row] for row in rows], device=self.device)
        with precision(kind, self.device):
            logits = self.model(**inputs_of(work, rows, self.device, with_types=self.with_types)).logits
            loss = nn.functional.cross_entropy(logits.float(), targets)
        loss.backward()
        nn.utils.clip_grad_norm_(self.trained.values(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(loss.detach())
