"""Reads files of adapter-hub's ``adapters`` library: bottlenecks, LoRA and IA3, with its prediction heads.

The library configures all bottlenecks with some thirty switches of one class. Three combinations correspond to methods
here; any other is refused with the name of the switch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from polytask.architectures import Pooling
from polytask.data.task import Kind
from polytask.errors import AdapterError
from polytask.interchange.files import Files
from polytask.interchange.foreign import (
    BackboneConfig,
    ForeignAdapter,
    ForeignHead,
    LowRankUpdate,
    check_all_read,
    combined_lora,
    ia3_gains,
    layer_and_site,
    layers_setting,
)
from polytask.interchange.separate_head import read_separate_head
from polytask.interchange.sequence_heads import read_sequence_head
from polytask.methods import IA3, Houlsby, Method, Parallel, Pfeiffer

CONFIG, HEAD_CONFIG = "adapter_config.json", "head_config.json"
WEIGHTS = ("adapter.safetensors", "pytorch_adapter.bin")
HEAD_WEIGHTS = ("model_head.safetensors", "pytorch_model_head.bin")
FORMAT = "adapterhub"

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "swish": "silu",
    "silu": "silu",
    "tanh": "tanh",
}
"""Our names of its activations."""
_UNVERSIONED_ACTIVATIONS = {"gelu": "gelu_new", "gelu_orig": "gelu"}
"""The meaning of activation names in old files, which have no version number."""
_ARCHITECTURES = {
    "prefix_tuning": "prefix tuning",
    "prompt_tuning": "prompt tuning",
    "union": "a union of several methods",
    "reft": "ReFT",
    "mtl_lora": "MTL-LoRA",
}
_METHODS_BY_SWITCHES: dict[tuple[bool, bool, bool, bool], type[Houlsby | Pfeiffer | Parallel]] = {
    # after attention, after the feed-forward part, parallel, LayerNorm before
    (True, True, False, False): Houlsby,
    (False, True, False, True): Pfeiffer,
    (False, True, True, False): Parallel,
}
_EXPECTED_SWITCHES = {
    "ln_before": (False, "it has an additional LayerNorm before the bottleneck"),
    "ln_after": (False, "it has an additional LayerNorm after the bottleneck"),
    "use_gating": (False, "it is gated"),
    "phm_layer": (False, "it uses hypercomplex multiplication (Compacter)"),
    "inv_adapter": (None, "it has an invertible adapter after the embeddings"),
    "original_ln_after": (True, "it omits the LayerNorm at the end of the sub-layer"),
    "residual_before_ln": (True, "it takes the residual after the LayerNorm"),
}
_PLACES = {
    "attention.output": "attn_out",
    "attention_adapters": "attn_out",
    "output": "ffn_out",
    "output_adapters": "ffn_out",
}
_LEGACY = re.compile(r"(attention|layer)_text_(task|lang)_adapters")


def is_adapterhub(files: Files) -> bool:
    """Whether the files were saved by adapter-hub."""
    return files.has(CONFIG) and {"config", "model_type"} <= set(files.json(CONFIG))


def backbone_named(files: Files) -> str | None:
    """The name of the backbone in the files, if any."""
    return files.text(CONFIG, "model_name")


def read(files: Files, base: BackboneConfig) -> tuple[ForeignAdapter, str]:
    """Read an adapter for a model with this configuration.

    Returns:
        The adapter, and the name of its file of weights.

    Raises:
        AdapterError: its kind or a setting is not supported.
    """
    saved = files.json(CONFIG)
    config = saved["config"]
    if not isinstance(config, dict):
        raise AdapterError(f"{files.folder / CONFIG} does not describe an adapter")
    if saved["model_type"] != base.model_type:
        raise AdapterError(f"the adapter is for a {saved['model_type']} model, and the backbone is a {base.model_type}")
    architecture = config.get("architecture")
    if architecture not in (None, "lora"):
        what = _ARCHITECTURES.get(architecture, repr(architecture))
        raise AdapterError(f"adapter-hub's {what} is not supported: no method here is equivalent")
    file = files.weights(*WEIGHTS)
    own = {_LEGACY.sub("adapters", base.path_in_encoder(k)): tensor for k, tensor in files.tensors(file).items()}
    name, version = str(saved.get("name")), str(saved.get("version") or "")
    if architecture == "lora":
        method, tensors = _read_lora_or_ia3(own, config, base, name, version)
    else:
        method, tensors = _read_bottlenecks(own, config, base, name, version)
    return ForeignAdapter(method, tensors, _read_head(files, base)), file


def _read_bottlenecks(
    own: Mapping[str, Tensor], config: Mapping[str, Any], base: BackboneConfig, name: str, version: str
) -> tuple[Method, dict[str, Tensor]]:
    """Bottlenecks of one size; smaller ones are padded with zeros, which does not change the output."""
    kind, activation = _method_class(config), _activation(config, version)
    scale = 1.0 if kind is Parallel else float(config.get("scaling", 1.0))
    places = _PLACES | ({"output": "ffn_norm", "output_adapters": "ffn_norm"} if kind is Pfeiffer else {})
    pattern = re.compile(
        rf"{re.escape(base.row.layers)}\.(\d{{1,4}})\.({'|'.join(map(re.escape, places))})\.adapters\."
        rf"{re.escape(name)}\.adapter_(down|up)(?:\.0)?\.(weight|bias)"
    )
    found = {key: pattern.fullmatch(key) for key in own}
    check_all_read("the adapter", [key for key, match in found.items() if match is None])
    size = max((len(tensor) for key, tensor in own.items() if ".adapter_down." in key), default=0)
    tensors: dict[str, Tensor] = {}
    for key, match in found.items():
        assert match is not None
        layer, where, which, part = match.groups()
        tensors[f"layer.{layer}.{places[where]}.{which}.{part}"] = _padded(own[key], which, part, size, scale)
    layers = layers_setting({layer_and_site(".".join(key.split(".")[:3]))[0] for key in tensors}, base.num_layers)
    settings: dict[str, Any] = {"size": size, "activation": activation, "layers": layers}
    settings |= {"norms": False} if kind is Houlsby else {}
    settings |= {"scale": float(config.get("scaling", 1.0))} if kind is Parallel else {}
    return kind(**settings), tensors


def _padded(tensor: Tensor, which: str, part: str, size: int, scale: float) -> Tensor:
    """A parameter padded to a bottleneck of this size; those of the up-projection are multiplied by ``scale``."""
    if which == "up":
        return scale * (F.pad(tensor, (0, size - tensor.shape[1])) if part == "weight" else tensor)
    missing = size - len(tensor)
    return F.pad(tensor, (0, 0, 0, missing) if part == "weight" else (0, missing))


def _method_class(config: Mapping[str, Any]) -> type[Houlsby | Pfeiffer | Parallel]:
    """The class of the method that a combination of switches corresponds to.

    Raises:
        AdapterError: no method is equivalent.
    """
    is_parallel = bool(config.get("is_parallel", False))
    for name, (usual, reason) in _EXPECTED_SWITCHES.items():
        if config.get(name, usual) != usual and not (is_parallel and name == "residual_before_ln"):
            raise AdapterError(f"{name}={config[name]!r}: {reason}, which no method here supports")
    if not isinstance(config.get("scaling", 1.0), int | float):
        raise AdapterError(f"scaling={config['scaling']!r}: no method here has a learned scale")
    switches = ("mh_adapter", "output_adapter", "is_parallel", "original_ln_before")
    has = tuple(bool(config.get(name, False)) for name in switches)
    kind = _METHODS_BY_SWITCHES.get(cast(tuple[bool, bool, bool, bool], has))
    if kind is None:
        given = ", ".join(f"{name}={value}" for name, value in zip(switches, has, strict=True))
        raise AdapterError(
            f"bottlenecks with {given} are not supported; supported are double_seq_bn, seq_bn and par_bn"
        )
    return kind


def _activation(config: Mapping[str, Any], version: str) -> str:
    name = str(config.get("non_linearity")).lower()
    name = name if version else _UNVERSIONED_ACTIVATIONS.get(name, name)
    if name not in ACTIVATIONS:
        raise AdapterError(f"non_linearity={name!r} is not supported; supported are {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def _read_lora_or_ia3(
    own: Mapping[str, Tensor], config: Mapping[str, Any], base: BackboneConfig, name: str, version: str
) -> tuple[Method, dict[str, Tensor]]:
    """LoRA, or IA3, which adapter-hub stores as a LoRA with ``composition_mode="scale"``."""
    for switch, reason in (("use_gating", "it is gated"), ("use_dora", "it is DoRA"), ("vera_d", "it is VeRA")):
        if config.get(switch):
            raise AdapterError(f"{switch}={config[switch]!r}: {reason}, which no method here supports")
    parts: dict[str, dict[str, Tensor]] = {}
    unknown = []
    for key, tensor in own.items():
        module, _, part = key.partition(f".loras.{name}.")
        place = base.place_of(module)
        if place is None or part not in ("lora_A", "lora_B"):
            unknown.append(key)
        else:
            parts.setdefault(place, {})[part] = tensor
    check_all_read("the adapter", unknown)
    scales = config.get("composition_mode") == "scale"
    return _read_ia3(parts, config, base) if scales else _read_lora(parts, config, base, version)


def _read_lora(
    parts: Mapping[str, Mapping[str, Tensor]], config: Mapping[str, Any], base: BackboneConfig, version: str
) -> tuple[Method, dict[str, Tensor]]:
    alpha = float(config["r"] if _is_older(version, (1, 1)) else config["alpha"])  # versions before 1.1 ignored alpha
    updates = {
        place: LowRankUpdate(own["lora_A"], own["lora_B"], alpha / len(own["lora_A"]))
        for place, own in parts.items()
        if {"lora_A", "lora_B"} == set(own)
    }
    check_all_read("the adapter", sorted(set(parts) - set(updates)))
    return combined_lora(updates, base.num_layers, float(config.get("dropout") or 0.0))


def _is_older(version: str, than: tuple[int, int]) -> bool:
    found = re.match(r"adapters\.(\d+)\.(\d+)", version)
    return found is not None and (int(found[1]), int(found[2])) < than


def _read_ia3(
    parts: Mapping[str, Mapping[str, Tensor]], config: Mapping[str, Any], base: BackboneConfig
) -> tuple[Method, dict[str, Tensor]]:
    elsewhere = [place for place in parts if layer_and_site(place)[1] not in ("key", "value")]
    if elsewhere:
        raise AdapterError(
            "adapter-hub's IA3 scales the feed-forward part before its activation (intermediate_lora=True); the "
            "paper's, which is used here, scales it after. The answers would differ"
        )
    scale = float(config.get("alpha", 1))
    return IA3(), ia3_gains({place: scale * own["lora_B"].flatten() for place, own in parts.items()}, base)


def _read_head(files: Files, base: BackboneConfig) -> ForeignHead:
    separate_head = read_separate_head(files)
    if separate_head is not None:
        return separate_head
    if not files.has(HEAD_CONFIG):
        raise AdapterError(f"{files.folder} has no {HEAD_CONFIG}. Save the trained head together with the adapter")
    saved = files.json(HEAD_CONFIG)
    tensors = {
        base.path_in_encoder(name): tensor for name, tensor in files.tensors(files.weights(*HEAD_WEIGHTS)).items()
    }
    config = saved.get("config")
    if config is None:  # a model with transformers' own head
        head = read_sequence_head(tensors, base.model_type)
        return ForeignHead(head.tensors, head.pooling, head.layers, None, _labels(saved.get("label2id")))
    return _read_flexible_head(config, tensors, str(saved.get("name")), base)


_HEAD_KINDS: dict[str, Kind] = {"classification": "classification", "multilabel_classification": "multilabel"}


def _read_flexible_head(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], name: str, base: BackboneConfig
) -> ForeignHead:
    """Read a ``ClassificationHead``: each layer is dropout, linear, activation; the last has no activation."""
    head_type, num_layers = config.get("head_type"), int(config.get("layers", 1))
    if head_type not in _HEAD_KINDS:
        raise AdapterError(f"a head of type {head_type!r} is not supported; supported are {', '.join(_HEAD_KINDS)}")
    activation = config.get("activation_function")
    kind: Kind = (
        "regression" if config.get("num_labels") == 1 and head_type == "classification" else _HEAD_KINDS[head_type]
    )
    layers: list[str] = []
    found: dict[str, Tensor] = {}
    at = 1
    for number in range(num_layers):
        theirs, ours = f"heads.{name}.{at}", "head" if number == num_layers - 1 else f"head.{len(layers)}"
        if f"{theirs}.weight" not in tensors:
            raise AdapterError(f"the head lacks the tensor {theirs}.weight")
        weight = tensors[f"{theirs}.weight"]
        found |= {f"{ours}.weight": weight, f"{ours}.bias": tensors.get(f"{theirs}.bias", torch.zeros(len(weight)))}
        if ours != "head":
            layers += ["dense", *([_activation_of_head(activation)] if activation else [])]
        at += 3 if activation else 2
    check_all_read(
        "the head", sorted(set(tensors) - {f"heads.{name}.{n}.{p}" for n in range(at) for p in ("weight", "bias")})
    )
    pooling: Pooling = "pooler" if config.get("use_pooler") else "cls"
    return ForeignHead(found, pooling, tuple(layers), kind, _labels(config.get("label2id")))


def _activation_of_head(activation: str) -> str:
    if activation.lower() not in ACTIVATIONS:
        raise AdapterError(
            f"the head's activation {activation!r} is not supported; supported are {', '.join(ACTIVATIONS)}"
        )
    return ACTIVATIONS[activation.lower()]


def _labels(given: object) -> tuple[str, ...] | None:
    """The label names in the order of their indices; None if there are none."""
    if not isinstance(given, dict) or sorted(given.values()) != list(range(len(given))):
        return None
    return tuple(sorted(given, key=given.__getitem__))
