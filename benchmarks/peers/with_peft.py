"""peft, and plain transformers for full fine-tuning, as contenders."""

from __future__ import annotations

from typing import Any

import torch
from peft import LoraConfig, TaskType, get_peft_model
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification

from contenders import Run, serve
from peers.plain import Inputs, answering, loading, one_forward_a_task, read_work, training


def lora() -> LoraConfig:
    """Rank 8 on queries and values."""
    return LoraConfig(
        task_type=TaskType.SEQ_CLS, r=8, lora_alpha=16, lora_dropout=0.0, target_modules=["query", "value"]
    )


def make(settings: dict[str, Any]) -> tuple[Run, dict[str, Any]]:
    """A training step, or an answer to a mixed batch."""
    num_labels = read_work(settings)["num_labels"]
    torch.manual_seed(0)
    model: nn.Module = AutoModelForSequenceClassification.from_pretrained(
        settings["model"], num_labels=num_labels, **loading(settings)
    )
    if settings["method"] == "full":
        return training(model, settings)
    adapted: Any = get_peft_model(model, lora(), adapter_name="t0")
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
