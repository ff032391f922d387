"""Adapters of every kind on a tiny backbone whose answers differ from row to row, and rows for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from polytask.adapters.adapter import Adapter
from polytask.adapters.module import LoadedAdapter
from polytask.backbones.backbone import Backbone
from polytask.data.task import Answer, Kind, Rows
from polytask.methods import Houlsby
from tests.tiny import WORDS

METRICS: dict[Kind, str] = {
    "classification": "accuracy",
    "multilabel": "micro_f1",
    "regression": "pearson",
    "span": "span_f1",
}
LABELS: dict[Kind, tuple[str, ...]] = {
    "classification": ("bad", "good"),
    "multilabel": ("x", "y", "z"),
    "regression": (),
    "span": (),
}


def random_adapter(
    backbone: Backbone,
    task: str,
    kind: Kind = "classification",
    labels: Sequence[str] | None = None,
    inputs: str | None = None,
    **given: Any,
) -> Adapter:
    """An adapter that was not trained, with a head large enough that its answers vary."""
    names = LABELS[kind] if labels is None else tuple(labels)
    method = Houlsby(2)
    live = LoadedAdapter(backbone, method, kind, names, key=(0, task))
    generator = torch.Generator().manual_seed(sum(map(ord, task)))
    tensors = {
        name: tensor + (2.0 if name == "head.weight" else 0.2) * torch.randn(tensor.shape, generator=generator)
        for name, tensor in live.tensors().items()
    }
    own = {"task": task, "kind": kind, "labels": names, "metric": METRICS[kind], "score": 0.5}
    takes = inputs or ("question+context" if kind == "span" else "single")
    recipe = {"seed": 0, "max_length": 32}
    return Adapter.create(tensors, method=method, backbone=backbone, recipe=recipe, inputs=takes, **{**own, **given})


def texts(num_rows: int) -> list[str]:
    """Texts of 2 to 9 known words, all different."""
    return [" ".join(WORDS[(7 * row + 3 * at) % len(WORDS)] for at in range(2 + row % 8)) for row in range(num_rows)]


def rows_of(kind: Kind, num_labels: int = 2, num_rows: int = 24) -> Rows:
    """Rows with targets."""
    own = texts(num_rows)
    if kind == "span":
        contexts = [f"{text} and {WORDS[row]} win" for row, text in enumerate(own)]
        questions = [("who win", "when was it", "is it")[row % 3] for row in range(num_rows)]
        answers = [(Answer(WORDS[row], context.rindex(" and ") + 5),) for row, context in enumerate(contexts)]
        return Rows(questions, contexts, answers)
    targets: dict[Kind, Any] = {
        "classification": [row % num_labels for row in range(num_rows)],
        "multilabel": [tuple(k for k in range(num_labels) if (row + k) % 3 == 0) for row in range(num_rows)],
        "regression": [float(row % 5) for row in range(num_rows)],
    }
    return Rows(own, targets=targets[kind])
