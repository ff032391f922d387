"""The host never waits for a GPU in a training step, and reads only the answers of a batch.

Tensors on the ``meta`` device have shapes but no values, so they stand for those of a GPU here: whoever reads one
fails, as does an operation on tensors of both devices. So this runs without a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import polytask as pt
from polytask import dropout
from polytask.adapters.attach import Attached
from polytask.adapters.module import LoadedAdapter, encode_batch
from polytask.data.batches import collate
from polytask.data.encoding import encode
from polytask.data.task import Rows, Task
from polytask.routing.route import Route
from polytask.training import loop
from polytask.training.job import Job, attached_to

FolderOf = Callable[[str], Path]
COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
METHODS = (pt.Houlsby(4), pt.LoRA(2), pt.Pfeiffer(4), pt.IA3(), pt.LayerNormOnly())


class Queue(TorchDispatchMode):
    """Refuses operations that mix devices, and copies between them for which the host waits."""

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor) and leaf.dim()]
        devices = {tensor.device.type for tensor in tensors}
        if operation in COPIES:
            to = torch.device(kwargs.get("device") or args[0].device).type
            is_queued = kwargs.get("non_blocking") or (len(args) > 2 and args[2])
            assert len(devices | {to}) < 2 or is_queued, f"the host waits in {operation}"
        else:
            assert len(devices) < 2, f"{operation} mixes devices"
        return operation(*args, **kwargs)


@pytest.fixture(autouse=True)
def drawing_on_meta(monkeypatch: pytest.MonkeyPatch) -> None:
    """``meta`` has no generator of random numbers; any will do for numbers without values."""
    monkeypatch.setattr(dropout, "keyed_generator", lambda *key, device: torch.Generator())


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_step_of_two_jobs_queues_everything(tiny_bert_folder: Path, tiny_task: Task, method: Any) -> None:
    backbone = pt.load_backbone(tiny_bert_folder, device="meta", dtype="float32", pooling="mean")
    recipes = [pt.Recipe(method, batch_size=4, class_weights=weights) for weights in (None, "balanced")]
    jobs = [Job(backbone, tiny_task, recipe, name=f"job{number}") for number, recipe in enumerate(recipes)]
    for job in jobs:
        job.step = 1  # the loss of the first step is read
    with attached_to(backbone, jobs) as attached, Queue():
        loop.step(backbone, attached, jobs)
    assert [job.step for job in jobs] == [2, 2]


@pytest.mark.parametrize(
    ("architecture", "method"), [*product(("bert", "roberta"), METHODS), ("mpnet", pt.Houlsby(4))], ids=str
)
def test_a_mixed_batch_queues_everything_up_to_its_vectors(folder_of: FolderOf, architecture: str, method: Any) -> None:
    backbone = pt.load_backbone(folder_of(architecture), device="meta", dtype="bfloat16", pooling="mean")
    attached, names = Attached.of(backbone), ["a", "b", "c", "a"]
    for name in dict.fromkeys(names):
        live = LoadedAdapter(backbone, method, "classification", ("no", "yes"), key=(name,))
        attached.add(name, live.frozen(torch.bfloat16).deltas)
    texts = encode(backbone.tokenizer, Rows(["a good film", "bad", "it is a great plot and i win", "vote"]), 16)
    with torch.inference_mode(), Queue(), backbone.one_pass(training=False), attached.routed(Route.of(names)):
        batch = collate([(texts, range(4))], 0, backbone.device)
        _, pooled = encode_batch(backbone, batch)
    assert pooled.shape == (4, backbone.hidden)
