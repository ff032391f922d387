"""peft, and plain transformers for full fine-tuning, as contenders."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from contenders import Run, serve
from peers.plain import Inputs, answering, loading, one_forward_a_task, read_work, training
from polytask.bench.peers import classifier, lora, with_peft


def make(settings: dict[str, Any]) -> tuple[Run, dict[str, Any]]:
    """A training step, or an answer to a mixed batch."""
    num_labels = read_work(settings)["num_labels"]
    torch.manual_seed(0)
    model = classifier(settings["model"], num_labels, **loading(settings))
    if settings["method"] == "full":
        return training(model, settings)
    adapted = with_peft(model)
    if settings["work_kind"] == "train":
        return training(adapted, settings)
    names = [f"t{task}" for task in range(settings["num_tasks"])]
    for name in names[1:]:
        adapted.add_adapter(name, lora())
    rows_each = settings["rows_each"]

    def mixed(rows: list[int], inputs: Inputs) -> list[Tensor]:
        return [adapted(**inputs, adapter_names=[name for name in names for _ in range(rows_each)]).logits]

    def apart(rows: list[int], inputs: Inputs) -> list[Tensor]:
        logits = []
        for task, part in one_forward_a_task(inputs, rows_each):
            adapted.set_adapter(names[task])
            logits.append(adapted(**part).logits)
        return logits

    def one(rows: list[int], inputs: Inputs) -> list[Tensor]:
        return [adapted(**inputs).logits]

    return answering(adapted, settings, {"mixed": mixed, "apart": apart, "one": one}[settings["route"]])


if __name__ == "__main__":
    serve(make)
