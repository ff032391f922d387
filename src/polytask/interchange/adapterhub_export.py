"""Writes adapters as files of adapter-hub's ``adapters`` library: bottlenecks without LayerNorms, and LoRA.

The library's heads read the first token or BERT's pooler. An adapter with another pooling is exported without such
a head; its head goes into separate files (``separate_head``).
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import torch as safetensors
from torch import Tensor

from polytask.adapters.adapter import Adapter
from polytask.adapters.header import Header
from polytask.architectures import architecture_of
from polytask.errors import AdapterError
from polytask.interchange.adapterhub import ACTIVATIONS
from polytask.interchange.head_layers import layer_names
from polytask.interchange.readme import readme
from polytask.interchange.separate_head import write_settings
from polytask.interchange.sequence_heads import encoder_prefix
from polytask.methods import DeltaMethod, Houlsby, LoRA, Method, Parallel, Pfeiffer

VERSION = "adapters.1.3.0"
"""The version of the library that defines the settings."""
_CLASSES = {
    "bert": "BertAdapterModel",
    "roberta": "RobertaAdapterModel",
    "xlm-roberta": "XLMRobertaAdapterModel",
    "distilbert": "DistilBertAdapterModel",
    "electra": "ElectraAdapterModel",
}
_THEIR_ACTIVATIONS = {"gelu": "gelu", "gelu_tanh": "gelu_new", "relu": "relu", "silu": "swish", "tanh": "tanh"}
_MODULES_OF_SITES = {"attn_out": "attention.output", "ffn_out": "output", "ffn_norm": "output"}
_MODULES_OF_SITES_DISTILBERT = {
    "attn_out": "attention_adapters",
    "ffn_out": "output_adapters",
    "ffn_norm": "output_adapters",
}
_PARTS = {"down": "adapter_down.0", "up": "adapter_up"}
_WHY_NOT = {
    "probe": "it adds nothing to the frozen model but a head. Export it with --to merged or --to onnx",
    "ia3": "its IA3 scales the feed-forward part before the activation, the paper's after it",
    "bitfit": "it has no method that trains only biases",
    "layernorm": "it has no method that trains only LayerNorms",
}


def write_adapterhub(adapter: Adapter, folder: Path) -> None:
    """Write the files into an existing folder.

    Raises:
        AdapterError: adapter-hub has no equivalent.
    """
    header, name = adapter.header, adapter.header.task.replace(".", "_")
    _check(header)
    tensors = {_tensor_name(key, header, name): t for key, t in adapter.tensors.items() if not key.startswith("head.")}
    common = {
        "hidden_size": header.backbone.hidden,
        "model_class": _CLASSES[header.backbone.architecture],
        "model_name": header.backbone.name,
        "model_type": header.backbone.architecture,
        "name": name,
        "version": VERSION,
    }
    _write(folder, "adapter", "adapter_config.json", {**common, "config": _config(header)}, tensors)
    includes_head = header.pooling in ("cls", "pooler") and _has_flexible_head(header)
    if includes_head:
        head = {f"heads.{name}.{theirs}": adapter.tensors[ours] for ours, theirs in _head_names(header).items()}
        _write(folder, "model_head", "head_config.json", {**common, "config": _head_config(header)}, head)
    write_settings(folder, adapter, with_head=not includes_head)
    (folder / "README.md").write_text(_readme(header, includes_head=includes_head), "utf-8")


def _check(header: Header) -> None:
    method, architecture = header.method, header.backbone.architecture
    if architecture not in _CLASSES:
        raise AdapterError(f"adapter-hub has no {architecture} models; it has {', '.join(_CLASSES)}")
    if isinstance(method, Houlsby) and method.trains_norms:
        raise AdapterError(
            "this adapter also trains LayerNorms, as in its paper, which adapter-hub's double_seq_bn does not support. "
            "Train with norms=False (--set norms=false) to export it"
        )
    if isinstance(method, LoRA) and "attn_dense" in method.linears:
        raise AdapterError("adapter-hub's LoRA does not support the attention's output projection (attn_dense)")
    if not isinstance(method, Houlsby | Pfeiffer | Parallel | LoRA):
        reason = _WHY_NOT.get(method.name, "it adds to a frozen model; this method replaces parameters of the model")
        raise AdapterError(f"{method.name!r} cannot be exported to adapter-hub: {reason}")


def _tensor_name(key: str, header: Header, name: str) -> str:
    """The name of a delta's tensor in the library."""
    architecture = header.backbone.architecture
    row = architecture_of(architecture)
    _, layer, site, which, part = key.split(".")
    at = f"{encoder_prefix(architecture)}{row.layers}.{layer}"
    if isinstance(header.method, LoRA):
        return f"{at}.{row.sites[site]}.loras.{name}.lora_{'A' if which == 'down' else 'B'}"
    where = _MODULES_OF_SITES_DISTILBERT if architecture == "distilbert" else _MODULES_OF_SITES
    return f"{at}.{where[site]}.adapters.{name}.{_PARTS[which]}.{part}"


def _config(header: Header) -> dict[str, Any]:
    method = header.method
    assert isinstance(method, DeltaMethod)
    chosen = method.chosen_layers(header.backbone.layers)
    left_out = [layer for layer in range(header.backbone.layers) if layer not in chosen]
    own = _lora_config(method) if isinstance(method, LoRA) else _bottleneck_config(method, header.backbone.hidden)
    return {**own, "leave_out": left_out}


def _bottleneck_config(method: Method, hidden: int) -> dict[str, Any]:
    assert isinstance(method, Houlsby | Pfeiffer | Parallel)
    return {
        "mh_adapter": isinstance(method, Houlsby),
        "output_adapter": True,
        "is_parallel": isinstance(method, Parallel),
        "original_ln_before": isinstance(method, Pfeiffer),
        "original_ln_after": True,
        "residual_before_ln": True,
        "adapter_residual_before_ln": False,
        "ln_before": False,
        "ln_after": False,
        "reduction_factor": hidden / method.size,
        "non_linearity": _THEIR_ACTIVATIONS[method.activation],
        "scaling": method.scale if isinstance(method, Parallel) else 1.0,
    }


def _lora_config(method: LoRA) -> dict[str, Any]:
    letters = {"query": "q", "key": "k", "value": "v"}
    return {
        "architecture": "lora",
        "selfattn_lora": any(linear in letters for linear in method.linears),
        "intermediate_lora": "ffn_up" in method.linears,
        "output_lora": "ffn_down" in method.linears,
        "attn_matrices": [letter for linear, letter in letters.items() if linear in method.linears],
        "r": method.rank,
        "alpha": method.alpha,
        "dropout": method.dropout,
        "composition_mode": "add",
        "init_weights": "lora",
        "use_gating": False,
    }


def _has_flexible_head(header: Header) -> bool:
    """Whether the prediction head is dense layers, each followed by the same activation, as the library's are."""
    layers = layer_names(header.prediction_layers)
    return set(layers[::2]) <= {"dense"} and len(layers) % 2 == 0 and len(set(layers[1::2]) - {"dense"}) <= 1


def _head_names(header: Header) -> dict[str, str]:
    """The names of the head's tensors in the library, where each layer is dropout, linear, activation."""
    numbers = {f"head.{n}": str(3 * (n // 2) + 1) for n in range(0, len(layer_names(header.prediction_layers)), 2)}
    numbers["head"] = str(3 * (len(layer_names(header.prediction_layers)) // 2) + 1)
    return {f"{ours}.{part}": f"{theirs}.{part}" for ours, theirs in numbers.items() for part in ("weight", "bias")}


def _head_config(header: Header) -> dict[str, Any]:
    theirs = {ours: name for name, ours in reversed(ACTIVATIONS.items())}
    layers, kind = layer_names(header.prediction_layers), header.head.kind
    return {
        "head_type": "multilabel_classification" if kind == "multilabel" else "classification",
        "num_labels": header.head.num_outputs,
        "layers": 1 + len(layers) // 2,
        "activation_function": theirs[layers[1]] if layers else None,
        "label2id": {label: index for index, label in enumerate(header.head.labels)} or None,
        "use_pooler": header.pooling == "pooler",
        "bias": True,
        "dropout_prob": None,
    }


def _write(folder: Path, stem: str, config_name: str, config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Write a configuration and its weights, as safetensors and as the ``.bin`` that the library reads by default."""
    own = {name: tensor.contiguous() for name, tensor in tensors.items()}
    (folder / config_name).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")
    (folder / f"{stem}.safetensors").write_bytes(safetensors.save(own))
    content = io.BytesIO()
    torch.save(own, content)
    (folder / f"pytorch_{stem}.bin").write_bytes(content.getvalue())


def _readme(header: Header, *, includes_head: bool) -> str:
    what = (
        "An adapter of adapter-hub's `adapters` with its prediction head."
        if includes_head
        else "An adapter of adapter-hub's `adapters`. Its head is in `head.safetensors`, because the library's heads "
        "pool differently."
    )
    auto = "AutoAdapterModel" if includes_head else "AutoModel"
    imports = (
        ("from adapters import AutoAdapterModel", "from transformers import AutoTokenizer")
        if includes_head
        else ("import adapters", "from transformers import AutoModel, AutoTokenizer")
    )
    model = (
        "tokenizer = AutoTokenizer.from_pretrained(backbone)",
        f"model = {auto}.from_pretrained(backbone)",
        *(() if includes_head else ("adapters.init(model)",)),
        'model.load_adapter(".", set_active=True)',
        "model.eval()",
    )
    return readme(header, what, imports, model, includes_head=includes_head)
