"""Reads files of peft: LoRA, IA3 and LN tuning, with their classifiers.

An unknown setting is refused unless it is empty: peft adds new variants of LoRA as new settings, and reading such a
file as plain LoRA would silently give other answers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

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
    layers_setting,
)
from polytask.interchange.separate_head import read_separate_head
from polytask.interchange.sequence_heads import read_sequence_head
from polytask.methods import IA3, LayerNormOnly, Method

CONFIG = "adapter_config.json"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
FORMAT = "peft"
_PREFIX = "base_model.model."

_ACCEPTED_SETTINGS = set(
    "peft_type peft_version auto_mapping base_model_name_or_path revision task_type inference_mode target_modules "
    "exclude_modules modules_to_save layers_to_transform layers_pattern fan_in_fan_out ensure_weight_tying "
    "r lora_alpha lora_dropout use_rslora rank_pattern alpha_pattern init_lora_weights megatron_config megatron_core "
    "loftq_config eva_config corda_config lora_ga_config qalora_group_size runtime_config feedforward_modules "
    "init_ia3_weights".split()
)
"""Settings that are read here, that follow from the tensors, or that affect training only."""
_WHY_REFUSED = {
    "use_dora": "DoRA scales each update by the norm of the merged weight, which no method here supports",
    "lora_bias": "LoRA has no biases of the updates here",
    "trainable_token_indices": "it trains token embeddings of the backbone, which is frozen here",
    "target_parameters": "updates of bare parameters are not supported",
    "layer_replication": "it repeats layers of the backbone, which is frozen here",
    "bias": "it also trains biases of the backbone, which is frozen here",
}
_ACCEPTED_INITS = (True, False, "gaussian", "eva", "orthogonal")
"""Initializations that do not change the backbone's weights."""


def is_peft(files: Files) -> bool:
    """Whether the files were saved by peft."""
    return files.has(CONFIG) and "peft_type" in files.json(CONFIG)


def backbone_named(files: Files) -> str | None:
    """The name of the backbone in the files, if any."""
    return files.text(CONFIG, "base_model_name_or_path")


def read(files: Files, base: BackboneConfig) -> tuple[ForeignAdapter, str]:
    """Read an adapter for a model with this configuration.

    Returns:
        The adapter, and the name of its file of weights.

    Raises:
        AdapterError: its kind or a setting is not supported.
    """
    settings = files.json(CONFIG)
    kind = str(settings.get("peft_type"))
    if kind not in _READERS:
        raise AdapterError(f"peft's {kind} is not supported; supported are {', '.join(_READERS)}")
    _check_settings(settings)
    file = files.weights(*WEIGHTS)
    own, rest = _split(files.tensors(file), base)
    method, tensors = _READERS[kind](own, settings, base)
    return ForeignAdapter(method, tensors, _read_head(files, rest, base, settings)), file


def _check_settings(settings: Mapping[str, Any]) -> None:
    if settings.get("init_lora_weights", True) not in _ACCEPTED_INITS:
        raise AdapterError(
            f"init_lora_weights={settings['init_lora_weights']!r} changes the backbone's weights, so the updates do "
            "not fit the original checkpoint. Convert it to plain LoRA with peft first"
        )
    for name, value in settings.items():
        if name in _ACCEPTED_SETTINGS or not value or value == "none":
            continue
        reason = _WHY_REFUSED.get(name, "this setting is unknown and may change the answers")
        raise AdapterError(f"{name}={value!r:.60}: {reason}")


_PARAMETER_PATH = re.compile(r"(?P<module>.+)\.(?P<part>lora_[AB]\.weight|ia3_l|ln_tuning_layers\.(?:weight|bias))")


def _split(
    tensors: Mapping[str, Tensor], base: BackboneConfig
) -> tuple[dict[str, dict[str, Tensor]], dict[str, Tensor]]:
    """Separate the method's tensors, by module and parameter, from all others, by path; paths are in the encoder."""
    own: dict[str, dict[str, Tensor]] = {}
    rest: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        path = base.path_in_encoder(name.removeprefix(_PREFIX))
        if found := _PARAMETER_PATH.fullmatch(path):
            own.setdefault(found["module"], {})[found["part"]] = tensor
        else:
            rest[path] = tensor
    return own, rest


def _read_head(
    files: Files, rest: Mapping[str, Tensor], base: BackboneConfig, settings: Mapping[str, Any]
) -> ForeignHead:
    separate_head = read_separate_head(files)
    if separate_head is not None:
        check_all_read("the file", list(rest))
        return separate_head
    task = settings.get("task_type")
    if task not in (None, "SEQ_CLS", "FEATURE_EXTRACTION"):
        raise AdapterError(f"task_type {task!r} is not supported; only SEQ_CLS is")
    return read_sequence_head(rest, base.model_type)


def _read_lora(own: Mapping[str, Mapping[str, Tensor]], settings: Mapping[str, Any], base: BackboneConfig) -> Any:
    updates: dict[str, LowRankUpdate] = {}
    unknown = []
    for module, parts in own.items():
        place = base.place_of(module)
        if place is None or set(parts) != {"lora_A.weight", "lora_B.weight"}:
            unknown.append(module)
            continue
        rank = len(parts["lora_A.weight"])
        alpha = _by_pattern(settings.get("alpha_pattern") or {}, module, settings.get("lora_alpha", 8))
        scale = alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)
        updates[place] = LowRankUpdate(parts["lora_A.weight"], parts["lora_B.weight"], scale)
    check_all_read("the file", unknown)
    return combined_lora(updates, base.num_layers, float(settings.get("lora_dropout") or 0.0))


def _by_pattern(patterns: Mapping[str, float], module: str, default: float) -> float:
    """The value of the first pattern that matches the end of a module's path, as in peft."""
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern.removeprefix('^')})$", module):
            return float(value)
    return float(default)


def _read_ia3(own: Mapping[str, Mapping[str, Tensor]], settings: Mapping[str, Any], base: BackboneConfig) -> Any:
    """Read IA3: gains on the output of a linear are ``[O, 1]``, gains on its input ``[1, I]``.

    A gain on the input of the attention's output projection equals one on the values, feature by feature. A gain on the
    input of the last feed-forward linear is the site ``ffn_mid``.
    """
    gains: dict[str, Tensor] = {}
    unknown = []
    for module, parts in own.items():
        place, (tensor, *others) = base.place_of(module) or "", parts.values()
        side = "in" if len(tensor) == 1 else "out"
        layer, _, site = place.rpartition(".")
        ours = _GAINS.get((site, side))
        if ours is None or others:
            unknown.append(f"{module} ({side})")
            continue
        name = f"{layer}.{ours}"
        gains[name] = gains.get(name, torch.ones(tensor.numel())) * tensor.flatten()
    check_all_read("IA3 in the file", unknown)
    return IA3(), ia3_gains(gains, base)


_GAINS = {
    ("key", "out"): "key",
    ("value", "out"): "value",
    ("attn_dense", "in"): "value",
    ("ffn_down", "in"): "ffn_mid",
}


def _read_layer_norms(
    own: Mapping[str, Mapping[str, Tensor]], settings: Mapping[str, Any], base: BackboneConfig
) -> Any:
    tensors: dict[str, Tensor] = {}
    layers = set()
    places = {module: base.place_of(module) for module in own}
    check_all_read("LN tuning in the file", [module for module, place in places.items() if place is None])
    for module, parts in own.items():
        place = str(places[module])
        tensors |= {f"{place}.{part.rpartition('.')[2]}": tensor for part, tensor in parts.items()}
        layers |= {int(place.split(".")[1])} if place.startswith("layer.") else set()
    chosen = layers_setting(layers, base.num_layers)
    if chosen is None and "embed_norm.weight" not in tensors:
        chosen = tuple(sorted(layers))
    return LayerNormOnly(layers=chosen), tensors


_READERS: dict[str, Callable[..., tuple[Method, dict[str, Tensor]]]] = {
    "LORA": _read_lora,
    "IA3": _read_ia3,
    "LN_TUNING": _read_layer_norms,
}
