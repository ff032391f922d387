"""Polytask as a contender: the step of its training loop and the batches of its predictor, nothing special."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from contenders import Run, serve
from peers.plain import inputs_of, read_work
from polytask.attach import Attached
from polytask.backbones import Backbone, load_backbone
from polytask.live import LiveAdapter
from polytask.memory import kept as kept_memory
from polytask.methods import FullFineTuning, Houlsby, LoRA, Method
from polytask.predict import scores_of
from polytask.tasks.batches import Encoded
from polytask.train.loop import step
from work import PreparedJob, attached_with


@dataclass(frozen=True)
class HoulsbyNormsFrozen(Houlsby):
    """The bottlenecks alone, as the peer has it."""

    sites: ClassVar = ("attn_out", "ffn_out")


MEMORY = ExitStack()
METHODS: dict[str, Method] = {
    "houlsby": Houlsby(64),
    "houlsby-norms-frozen": HoulsbyNormsFrozen(64),
    "lora": LoRA(rank=8, alpha=16),
    "full": FullFineTuning(),
}


def make(settings: dict[str, Any]) -> tuple[Run, dict[str, Any]]:
    """A training step, or an answer to a mixed batch."""
    torch.set_num_threads(settings["threads"])
    MEMORY.enter_context(kept_memory())  # as the loop does for as long as it runs
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


def answering(backbone: Backbone, work: dict[str, Any], method: Method, settings: dict[str, Any]) -> Run:
    """What answers a batch, each row by its own adapter, by one of them, or one task after another."""
    attached = Attached(backbone.model, backbone.row, backbone.noise)
    labels = tuple(f"label {label}" for label in range(work["num_labels"]))
    live = {}
    for task in range(settings["num_tasks"]):
        name = f"t{task}"
        live[name] = LiveAdapter(backbone, method, "classification", labels, key=(0, name)).frozen()
        attached.add(name, live[name].deltas)
    rows_each, batches = settings["rows_each"], work["orders"][settings["order"]]
    everything = Encoded(work["ids"], work["types"], 0)

    def scores(rows: list[int], names: list[str]) -> float:
        taken = everything.take(rows)
        answers = scores_of(backbone, attached, live, taken, names, batch_tokens=1 << 20)
        return float(sum(answer[0] for answer in answers))

    def mixed(rows: list[int]) -> float:
        return scores(rows, [f"t{at // rows_each}" for at in range(len(rows))])

    def apart(rows: list[int]) -> float:
        starts = range(0, len(rows), rows_each)
        return sum(scores(rows[at : at + rows_each], [f"t{at // rows_each}"] * rows_each) for at in starts)

    def one(rows: list[int]) -> float:
        return scores(rows, ["t0"] * len(rows))

    @torch.inference_mode()
    def bare(rows: list[int]) -> float:
        inputs = inputs_of(work, rows, settings["device"])
        _, pooled = backbone.encoder(inputs["input_ids"], inputs["attention_mask"], inputs["token_type_ids"])
        return float(pooled.float().sum())

    routes: dict[str, Callable[[list[int]], float]] = {"mixed": mixed, "apart": apart, "one": one, "bare": bare}
    answer = routes[settings["route"]]
    return lambda batch: answer(batches[batch])


if __name__ == "__main__":
    serve(make)
