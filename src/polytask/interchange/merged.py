"""Merges an adapter into the weights of a plain transformers checkpoint.

Methods that change a module linearly can be merged: LoRA, IA3, BitFit, LayerNorm tuning, and the baselines that replace
parameters. A bottleneck has a non-linearity and cannot be merged.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification

from polytask.adapters.adapter import Adapter
from polytask.adapters.module import LoadedAdapter
from polytask.architectures import Located, locate
from polytask.backbones.backbone import Backbone
from polytask.backbones.checkpoint import quiet_transformers
from polytask.errors import AdapterError
from polytask.interchange.readme import readme
from polytask.interchange.separate_head import write_settings
from polytask.interchange.sequence_heads import matches_sequence_class, sequence_head_tensors
from polytask.methods import Delta
from polytask.methods.bottleneck import Bottleneck
from polytask.methods.lora import LowRank
from polytask.methods.scaling import Gain, Shift, TunedNorm

PROBLEMS = {
    "classification": "single_label_classification",
    "multilabel": "multi_label_classification",
    "regression": "regression",
}


def _rows(spot: Located) -> Any:
    """The rows of a fused projection that belong to the site; all rows of one that is not fused."""
    return slice(None) if spot.rows is None else list(spot.rows)


def _low_rank(spot: Located, delta: Any) -> None:
    _weight(spot)[_rows(spot)] += delta.scale * delta.up.weight @ delta.down.weight


def _gain(spot: Located, delta: Any) -> None:
    _weight(spot)[_rows(spot)] *= delta.gain[:, None]
    if spot.output.bias is not None:
        _bias(spot)[_rows(spot)] *= delta.gain


def _weight(spot: Located) -> Any:
    return spot.output.weight


def _bias(spot: Located) -> Any:
    if spot.output.bias is None:
        raise AdapterError(f"{spot.place.name} has no bias in the backbone, so the trained bias cannot be merged")
    return spot.output.bias


def _gain_of_input(module: Any, delta: Any) -> None:
    module.weight *= delta.gain


def _shift(spot: Located, delta: Any) -> None:
    _bias(spot)[_rows(spot)] += delta.bias


def _norm(spot: Located, delta: Any) -> None:
    _weight(spot).copy_(delta.weight)
    if getattr(delta, "bias", None) is not None:
        _bias(spot).copy_(delta.bias)


_MERGES: dict[type[Delta], Callable[[Located, Any], None]] = {
    LowRank: _low_rank,
    Gain: _gain,
    Shift: _shift,
    TunedNorm: _norm,
}


@torch.no_grad()
def merged_model(backbone: Backbone, adapter: Adapter) -> nn.Module:
    """A copy of the backbone's model in fp32, with the adapter merged into its weights.

    Raises:
        AdapterError: the method cannot be merged.
        IncompatibleAdapter: the adapter belongs to another backbone.
    """
    loaded = LoadedAdapter.from_adapter(backbone, adapter)
    for delta in loaded.deltas.values():
        if isinstance(delta, Bottleneck):
            raise AdapterError(
                f"{adapter.method.name!r} cannot be merged: a bottleneck has a non-linearity, which cannot be "
                "part of a weight. Export to onnx, or train with lora, ia3, bitfit or layernorm"
            )
        if type(delta) not in _MERGES:
            raise AdapterError(f"{adapter.method.name!r} cannot be merged into the backbone's weights")
    model = copy_model(backbone.model).float()
    own = dict(model.named_parameters())
    for name, values in loaded.copies.items():
        own[name].copy_(values)
    located = {spot.place.name: spot for spot in locate(model, backbone.row)}
    for place, delta in loaded.deltas.items():
        if place.endswith(".ffn_mid"):
            _gain_of_input(located[place.replace("ffn_mid", "ffn_down")].output, delta)
        else:
            _MERGES[type(delta)](located[place], delta)
    return model


def copy_model(model: nn.Module) -> nn.Module:
    """A copy of the model, without hooks and with eager attention."""
    config: Any = copy.deepcopy(model.config)
    config._attn_implementation = "eager"
    other: Any = type(model)._from_config(config)  # type: ignore[attr-defined]
    state = model.state_dict()
    if getattr(model, "pooler", None) is None and getattr(other, "pooler", None) is not None:
        other.pooler = None
    other.load_state_dict(state)
    result: nn.Module = other.eval()
    return result


def write_merged(adapter: Adapter, backbone: Backbone, folder: Path) -> None:
    """Write a transformers checkpoint into an existing folder.

    If transformers' sequence classification class pools as the adapter does, the checkpoint includes the head and the
    label names, and ``pipeline("text-classification", folder)`` runs it. Otherwise it is the bare encoder, with the
    head in separate files.

    Raises:
        AdapterError: the method cannot be merged.
    """
    encoder, header = merged_model(backbone, adapter), adapter.header
    includes_head = matches_sequence_class(header)
    model: Any = _with_head(encoder, adapter) if includes_head else encoder
    with quiet_transformers():
        model.save_pretrained(folder)
    backbone.tokenizer.save_pretrained(folder)
    write_settings(folder, adapter, with_head=not includes_head)
    auto = "AutoModelForSequenceClassification" if includes_head else "AutoModel"
    what = (
        'A transformers checkpoint with a classification head: `pipeline("text-classification", folder)` runs it.'
        if includes_head
        else "A transformers encoder with the adapter merged into it. The head is in `head.safetensors`, because "
        "transformers' class for sequence classification pools differently."
    )
    lines = ('tokenizer = AutoTokenizer.from_pretrained(".")', f'model = {auto}.from_pretrained(".").eval()')
    imports = (f"from transformers import {auto}, AutoTokenizer",)
    (folder / "README.md").write_text(readme(header, what, imports, lines, includes_head=includes_head), "utf-8")


@torch.no_grad()
def _with_head(encoder: Any, adapter: Adapter) -> nn.Module:
    """The encoder in transformers' sequence classification class, with the adapter's head and label names."""
    header = adapter.header
    config = copy.deepcopy(encoder.config)
    labels = header.head.labels or tuple(f"LABEL_{index}" for index in range(header.head.num_outputs))
    config.num_labels = header.head.num_outputs
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: index for index, label in enumerate(labels)}
    config.problem_type = PROBLEMS[header.head.kind]
    model: nn.Module = AutoModelForSequenceClassification.from_config(config)
    state: dict[str, Tensor] = {f"{model.base_model_prefix}.{k}": v for k, v in encoder.state_dict().items()}
    model.load_state_dict({**state, **sequence_head_tensors(adapter.tensors, header.backbone.architecture)})
    return model.eval()
