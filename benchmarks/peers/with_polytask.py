"""Polytask as a contender: the step of its training loop and the batches of its predictor."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch

from contenders import Run, serve
from peers.plain import read_work
from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.bench.answering import answering_functions
from polytask.bench.reference_loop import Work
from polytask.bench.workload import PreparedJob, attached_with
from polytask.memory import keep_freed_memory as kept_memory
from polytask.methods import FullFineTuning, Houlsby, LoRA, Method
from polytask.training.loop import step

OPEN = ExitStack()
"""What stays open for as long as the process lives."""

METHODS: dict[str, Method] = {
    "houlsby": Houlsby(64),
    "houlsby-norms-frozen": Houlsby(64, norms=False),
    "lora": LoRA(rank=8, alpha=16),
    "full": FullFineTuning(),
}


def make(settings: dict[str, Any]) -> tuple[Run, dict[str, Any]]:
    """A training step, or an answer to a mixed batch."""
    torch.set_num_threads(settings["threads"])
    OPEN.enter_context(kept_memory())  # as the loop does for as long as it runs
    backbone = load_backbone(settings["model"], device=settings["device"], dtype=settings.get("dtype", "auto"))
    work, method = read_work(settings), METHODS[settings["method"]]
    facts = {"dtype": str(backbone.dtype).removeprefix("torch.")}
    if settings["work_kind"] == "train":
        job = PreparedJob(backbone, work, method)
        return training(backbone, job), {**facts, "trained": job.live.num_trained}
    return answering(backbone, work, method, settings), facts


def training(backbone: Backbone, job: PreparedJob) -> Run:
    """What trains on a batch and gives its loss."""
    attached = attached_with(backbone, [job])

    def run(batch: int) -> float:
        job.batch = batch
        return step(backbone, attached, [job])[0][0]

    return run


def answering(backbone: Backbone, work: Work, method: Method, settings: dict[str, Any]) -> Run:
    """What answers a batch, each row by its own adapter, by one of them, or one task after another."""
    answer = OPEN.enter_context(
        answering_functions(backbone, work, method, settings["num_tasks"], settings["rows_each"])
    )[settings["route"]]
    batches = work["orders"][settings["order"]]
    return lambda batch: answer(batches[batch])


if __name__ == "__main__":
    serve(make)
