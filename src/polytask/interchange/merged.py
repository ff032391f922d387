"""Adapters merged into a checkpoint of transformers: no adapter is left, and nothing is needed to read it.

What changes a linear by a linear map can be merged: LoRA, IA3, BitFit, LayerNorms, and the baselines that replace
parameters. A bottleneck has a non-linearity of its own and cannot.
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
from polytask.interchange.beside import write_beside
from polytask.interchange.readme import readme
from polytask.interchange.sequence_heads import agrees, head_written
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
    """The rows of a projection that a site is, or all."""
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
        raise AdapterError(f"{spot.place.name} has no bias in the backbone, so what was trained cannot be merged")
    return spot.output.bias


def _gain_before(module: Any, delta: Any) -> None:
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
    """A copy of the backbone's model in fp32 that computes what the backbone computes with the adapter.

    Raises:
        AdapterError: the method cannot be merged.
        IncompatibleAdapter: the adapter belongs to another backbone.
    """
    live = LoadedAdapter.from_adapter(backbone, adapter)
    for delta in live.deltas.values():
        if isinstance(delta, Bottleneck):
            raise AdapterError(
                f"{adapter.method.name!r} cannot be merged: a bottleneck has a non-linearity of its own, which no "
                "weight of the backbone can stand for. Export it to onnx, or train lora, ia3, bitfit or layernorm"
            )
        if type(delta) not in _MERGES:
            raise AdapterError(f"{adapter.method.name!r} cannot be merged into the backbone's weights")
    model = copied(backbone.model).float()
    own = dict(model.named_parameters())
    for name, values in live.copies.items():
        own[name].copy_(values)
    located = {spot.place.name: spot for spot in locate(model, backbone.row)}
    for place, delta in live.deltas.items():
        if place.endswith(".ffn_mid"):
            _gain_before(located[place.replace("ffn_mid", "ffn_down")].output, delta)
        else:
            _MERGES[type(delta)](located[place], delta)
    return model


def copied(model: nn.Module) -> nn.Module:
    """Another model of the same class with the same weights, without hooks and fast ways."""
    config: Any = copy.deepcopy(model.config)
    config._attn_implementation = "eager"
    other: Any = type(model)._from_config(config)  # type: ignore[attr-defined]
    state = model.state_dict()
    if getattr(model, "pooler", None) is None and getattr(other, "pooler", None) is not None:
        other.pooler = None
    other.load_state_dict(state)
    copied: nn.Module = other.eval()
    return copied


def write_merged(adapter: Adapter, backbone: Backbone, folder: Path) -> None:
    """Fill a folder with a checkpoint of transformers.

    Where transformers' own class for sequence classification reads a text as the adapter does, it has the head and the
    names of the labels, and ``pipeline("text-classification", folder)`` runs it. Elsewhere it is the bare encoder, with
    the head in files beside it.

    Raises:
        AdapterError: the method cannot be merged.
    """
    encoder, header = merged_model(backbone, adapter), adapter.header
    is_whole = agrees(header)
    model: Any = _with_head(encoder, adapter) if is_whole else encoder
    with quiet_transformers():
        model.save_pretrained(folder)
    backbone.tokenizer.save_pretrained(folder)
    write_beside(folder, adapter, with_head=not is_whole)
    auto = "AutoModelForSequenceClassification" if is_whole else "AutoModel"
    what = (
        'A checkpoint of transformers with its classification head: `pipeline("text-classification", folder)` runs it.'
        if is_whole
        else "An encoder of transformers with the adapter merged into it, and its head in `head.safetensors`, because "
        "transformers' class for sequence classification reads a text otherwise than this adapter does."
    )
    lines = ('tokenizer = AutoTokenizer.from_pretrained(".")', f'model = {auto}.from_pretrained(".").eval()')
    imports = (f"from transformers import {auto}, AutoTokenizer",)
    (folder / "README.md").write_text(readme(header, what, imports, lines, is_whole=is_whole), "utf-8")


@torch.no_grad()
def _with_head(encoder: Any, adapter: Adapter) -> nn.Module:
    """Transformers' own class around the encoder, with the adapter's head and label names."""
    header = adapter.header
    config = copy.deepcopy(encoder.config)
    labels = header.head.labels or tuple(f"LABEL_{index}" for index in range(header.head.num_outputs))
    config.num_labels = header.head.num_outputs
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: index for index, label in enumerate(labels)}
    config.problem_type = PROBLEMS[header.head.kind]
    model: nn.Module = AutoModelForSequenceClassification.from_config(config)
    state: dict[str, Tensor] = {f"{model.base_model_prefix}.{k}": v for k, v in encoder.state_dict().items()}
    model.load_state_dict({**state, **head_written(adapter.tensors, header.backbone.architecture)})
    return model.eval()
