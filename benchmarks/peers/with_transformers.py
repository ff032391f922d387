"""Transformers as a contender: the bare encoder in bf16 with its own attention."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModel

from contenders import Run, serve
from peers.plain import answering


def make(settings: dict[str, Any]) -> tuple[Run, dict[str, Any]]:
    """What answers a batch with the sum of its hidden states."""
    torch.set_num_threads(settings["threads"])
    model = AutoModel.from_pretrained(settings["model"], dtype=torch.bfloat16, add_pooling_layer=False)
    return answering(model, settings, lambda _, inputs: [model(**inputs).last_hidden_state])


if __name__ == "__main__":
    serve(make)
