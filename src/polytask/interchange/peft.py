"""Files of peft: LoRA, IA3 and LN tuning, with their classifiers.

Unusual here: a setting that is not known is a refusal, unless it is empty. New kinds of LoRA come as new settings, and
reading one as plain LoRA would answer otherwise without a word.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from polytask.errors import AdapterError
from polytask.interchange.beside import head_beside
from polytask.interchange.files import Files
from polytask.interchange.foreign import (
    Base,
    Foreign,
    ForeignHead,
    Update,
    gains_of,
    layers_setting,
    lora_of,
    only_known,
)
from polytask.interchange.sequence_heads import head_read
from polytask.methods import IA3, LayerNormOnly, Method

CONFIG = "adapter_config.json"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
FORMAT = "peft"
_PREFIX = "base_model.model."

_HARMLESS = set(
    "peft_type peft_version auto_mapping base_model_name_or_path revision task_type inference_mode target_modules "
    "exclude_modules modules_to_save layers_to_transform layers_pattern fan_in_fan_out ensure_weight_tying "
    "r lora_alpha lora_dropout use_rslora rank_pattern alpha_pattern init_lora_weights megatron_config megatron_core "
    "loftq_config eva_config corda_config lora_ga_config qalora_group_size runtime_config feedforward_modules "
    "init_ia3_weights".split()
)
"""Settings that say what the tensors say too, that are read here, or that matter to training only."""
_REASONS = {
    "use_dora": "DoRA scales each update by the norm of the merged weight, which no method here does",
    "lora_bias": "biases of the updates have no place in LoRA here",
    "trainable_token_indices": "trained token embeddings belong to the backbone, which is frozen here",
    "target_parameters": "updates of bare parameters are not known here",
    "layer_replication": "it repeats layers of the backbone, which is frozen here",
    "bias": "it trains the backbone's own biases beside the updates",
}
_STARTS = (True, False, "gaussian", "eva", "orthogonal")
"""Initial values that leave the backbone's weights as they were."""


def is_peft(files: Files) -> bool:
    """Whether these are files of peft."""
    return files.has(CONFIG) and "peft_type" in files.json(CONFIG)


def backbone_named(files: Files) -> str | None:
    """The backbone that the files name."""
    name = files.json(CONFIG).get("base_model_name_or_path")
    return name if isinstance(name, str) and name else None


def read(files: Files, base: Base) -> tuple[Foreign, str]:
    """What peft saved, for a model of this configuration, and the file that holds the weights.

    Raises:
        AdapterError: it is of a kind that is not known here, with the reason.
    """
    settings = files.json(CONFIG)
    kind = str(settings.get("peft_type"))
    if kind not in _READERS:
        raise AdapterError(f"peft's {kind} is not known here; its {', '.join(_READERS)} are")
    _check_settings(settings)
    file = files.weights(*WEIGHTS)
    own, rest = _parted(files.tensors(file), base)
    method, tensors = _READERS[kind](own, settings, base)
    return Foreign(method, tensors, _head(files, rest, base, settings)), file


def _check_settings(settings: Mapping[str, Any]) -> None:
    if settings.get("init_lora_weights", True) not in _STARTS:
        raise AdapterError(
            f"init_lora_weights={settings['init_lora_weights']!r} changes the backbone's own weights, so the updates "
            "belong to other weights than those of the checkpoint. Save it with peft's conversion to plain LoRA first"
        )
    for name, value in settings.items():
        if name in _HARMLESS or not value or value == "none":
            continue
        reason = _REASONS.get(name, "this setting is not known here, and may change the answers")
        raise AdapterError(f"{name}={value!r:.60}: {reason}")


_PARTS = re.compile(r"(?P<module>.+)\.(?P<part>lora_[AB]\.weight|ia3_l|ln_tuning_layers\.(?:weight|bias))")


def _parted(tensors: Mapping[str, Tensor], base: Base) -> tuple[dict[str, dict[str, Tensor]], dict[str, Tensor]]:
    """The tensors of the method by module and part, and all others by name; both as paths in the encoder."""
    own: dict[str, dict[str, Tensor]] = {}
    rest: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        path = base.within(name.removeprefix(_PREFIX))
        if found := _PARTS.fullmatch(path):
            own.setdefault(found["module"], {})[found["part"]] = tensor
        else:
            rest[path] = tensor
    return own, rest


def _head(files: Files, rest: Mapping[str, Tensor], base: Base, settings: Mapping[str, Any]) -> ForeignHead:
    beside = head_beside(files)
    if beside is not None:
        only_known("the file", list(rest))
        return beside
    task = settings.get("task_type")
    if task not in (None, "SEQ_CLS", "FEATURE_EXTRACTION"):
        raise AdapterError(f"task_type {task!r}: only heads of sequence classification (SEQ_CLS) are known here")
    return head_read(rest, base.model_type)


def _lora(own: Mapping[str, Mapping[str, Tensor]], settings: Mapping[str, Any], base: Base) -> Any:
    updates: dict[str, Update] = {}
    unknown = []
    for module, parts in own.items():
        place = base.place_of(module)
        if place is None or set(parts) != {"lora_A.weight", "lora_B.weight"}:
            unknown.append(module)
            continue
        rank = len(parts["lora_A.weight"])
        alpha = _by_pattern(settings.get("alpha_pattern") or {}, module, settings.get("lora_alpha", 8))
        scale = alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)
        updates[place] = Update(parts["lora_A.weight"], parts["lora_B.weight"], scale)
    only_known("the file", unknown)
    return lora_of(updates, base.num_layers, float(settings.get("lora_dropout") or 0.0))


def _by_pattern(patterns: Mapping[str, float], module: str, usual: float) -> float:
    """The value of the first pattern that a module's path ends with, as peft looks it up."""
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern.removeprefix('^')})$", module):
            return float(value)
    return float(usual)


def _ia3(own: Mapping[str, Mapping[str, Tensor]], settings: Mapping[str, Any], base: Base) -> Any:
    """Factors on what comes out of a linear are ``[O, 1]``, factors on what goes in ``[1, I]``.

    What goes into the attention's last linear is what its values come to, feature by feature: a factor there is one on
    the values. What goes into the feed-forward part's last linear is ``ffn_mid``.
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
    only_known("IA3 in the file", unknown)
    return IA3(), gains_of(gains, base)


_GAINS = {
    ("key", "out"): "key",
    ("value", "out"): "value",
    ("attn_dense", "in"): "value",
    ("ffn_down", "in"): "ffn_mid",
}


def _norms(own: Mapping[str, Mapping[str, Tensor]], settings: Mapping[str, Any], base: Base) -> Any:
    tensors: dict[str, Tensor] = {}
    layers = set()
    places = {module: base.place_of(module) for module in own}
    only_known("LN tuning in the file", [module for module, place in places.items() if place is None])
    for module, parts in own.items():
        place = str(places[module])
        tensors |= {f"{place}.{part.rpartition('.')[2]}": tensor for part, tensor in parts.items()}
        layers |= {int(place.split(".")[1])} if place.startswith("layer.") else set()
    chosen = layers_setting(layers, base.num_layers)
    if chosen is None and "embed_norm.weight" not in tensors:
        chosen = tuple(sorted(layers))
    return LayerNormOnly(layers=chosen), tensors


_READERS: dict[str, Callable[..., tuple[Method, dict[str, Tensor]]]] = {"LORA": _lora, "IA3": _ia3, "LN_TUNING": _norms}
