"""adapters as a contender: its two-bottleneck configuration with the size, activation and head that ours has."""

from __future__ import annotations

from typing import Any

import adapters.composition as ac
import torch
from torch import Tensor

from adapters import LoRAConfig
from contenders import Run, serve
from peers.plain import Inputs, answering, loading, one_forward_a_task, read_work, training
from polytask.bench.peers import with_adapters


def make(settings: dict[str, Any]) -> tuple[Run, dict[str, Any]]:
    """A training step, or an answer to a mixed batch."""
    num_labels = read_work(settings)["num_labels"]
    torch.manual_seed(0)
    names = tuple(f"t{task}" for task in range(settings.get("num_tasks", 1)))
    config = LoRAConfig(r=8, alpha=16) if settings["method"] == "lora" else None
    model = with_adapters(settings["model"], num_labels, names, config, **loading(settings))
    if settings["work_kind"] == "train":
        model.train_adapter("t0")
        return training(model, settings)
    rows_each = settings["rows_each"]
    everyone = ac.BatchSplit(*names, batch_sizes=[rows_each] * len(names))

    def mixed(rows: list[int], inputs: Inputs) -> list[Tensor]:
        return [output.logits for output in model(**inputs).head_outputs]

    def apart(rows: list[int], inputs: Inputs) -> list[Tensor]:
        logits = []
        for task, part in one_forward_a_task(inputs, rows_each):
            model.set_active_adapters(names[task])  # its head, too
            logits.append(model(**part).logits)
        return logits

    def one(rows: list[int], inputs: Inputs) -> list[Tensor]:
        return [model(**inputs).logits]

    model.set_active_adapters(everyone if settings["route"] == "mixed" else "t0")
    return answering(model, settings, {"mixed": mixed, "apart": apart, "one": one}[settings["route"]])


if __name__ == "__main__":
    serve(make)
