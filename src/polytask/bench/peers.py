"""Builds the models of other libraries as in their documentation. Imports no other module of Polytask.

Dropout is that of the checkpoint, 0.1, as in Polytask. LoRA's own dropout is off in both.
"""

from __future__ import annotations

from typing import Any

from torch import nn


def classifier(source: str, num_labels: int, **loading: Any) -> nn.Module:
    """A sequence classification model of transformers, for full fine-tuning."""
    from transformers import AutoModelForSequenceClassification

    model: nn.Module = AutoModelForSequenceClassification.from_pretrained(source, num_labels=num_labels, **loading)
    return model


def lora() -> Any:
    """The LoRA configuration of peft: rank 8 on queries and values."""
    from peft import LoraConfig, TaskType

    return LoraConfig(
        task_type=TaskType.SEQ_CLS, r=8, lora_alpha=16, lora_dropout=0.0, target_modules=["query", "value"]
    )


def with_peft(model: nn.Module, name: str = "t0") -> Any:
    """The model with peft's LoRA."""
    from peft import get_peft_model

    return get_peft_model(model, lora(), adapter_name=name)


def houlsby(hidden: int) -> Any:
    """The bottleneck configuration of the adapters library: two of size 64 per layer, with Polytask's activation."""
    from adapters import DoubleSeqBnConfig

    return DoubleSeqBnConfig(reduction_factor=hidden / 64, non_linearity="gelu")


def with_adapters(
    source: str, num_labels: int, names: tuple[str, ...] = ("t0",), config: Any = None, **loading: Any
) -> Any:
    """A model of the adapters library with an adapter (default: ``houlsby``) and a head for each name."""
    from adapters import AutoAdapterModel

    model: Any = AutoAdapterModel.from_pretrained(source, **loading)
    for name in names:
        model.add_adapter(name, config=config or houlsby(model.config.hidden_size))
        model.add_classification_head(name, num_labels=num_labels, layers=1)
    return model
