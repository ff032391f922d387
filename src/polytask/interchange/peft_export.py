"""Writes adapters as files of peft: LoRA, IA3 and LN tuning.

If transformers' sequence classification class pools as the adapter does, the export is ``SEQ_CLS`` with the head in
``modules_to_save``. Otherwise (BERT's class uses a pooler, most adapters here do not) it is ``FEATURE_EXTRACTION`` for
the bare encoder, with the head in separate files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import torch as safetensors
from torch import Tensor

from polytask.adapters.adapter import Adapter
from polytask.architectures import architecture_of
from polytask.errors import AdapterError
from polytask.interchange.readme import readme
from polytask.interchange.separate_head import write_settings
from polytask.interchange.sequence_heads import encoder_prefix, matches_sequence_class, sequence_head_tensors
from polytask.methods import IA3, LayerNormOnly, LoRA
from polytask.methods.delta import EMBED_NORM

_PREFIX = "base_model.model."
_WHY_NOT = {
    "probe": "it adds nothing to the frozen model but a head. Export it with --to merged or --to onnx",
    "houlsby": "peft has no bottleneck adapters",
    "pfeiffer": "peft has no bottleneck adapters",
    "parallel": "peft has no bottleneck adapters",
    "bitfit": "peft has no method that trains only biases",
}


@dataclass(frozen=True)
class ExportedDelta:
    """A delta: its site, the path of its module in the encoder, and its tensors by parameter."""

    site: str
    module: str
    tensors: dict[str, Tensor]


def write_peft(adapter: Adapter, folder: Path) -> None:
    """Write the files into an existing folder.

    Raises:
        AdapterError: peft has no equivalent method.
    """
    header, method = adapter.header, adapter.method
    if method.name not in _WRITERS:
        reason = _WHY_NOT.get(method.name, "peft adds to a frozen model; this method replaces parameters of the model")
        raise AdapterError(f"{method.name!r} cannot be exported to peft: {reason}")
    includes_head = matches_sequence_class(header)
    deltas = _exported_deltas(adapter)
    settings, parts = _WRITERS[method.name](method, deltas)
    config = {
        **settings,
        "base_model_name_or_path": header.backbone.name,
        "task_type": "SEQ_CLS" if includes_head else "FEATURE_EXTRACTION",
        "inference_mode": True,
        "target_modules": _module_pattern(deltas),
        "modules_to_save": None,
    }
    architecture = header.backbone.architecture
    prefix = f"{_PREFIX}{encoder_prefix(architecture)}" if includes_head else _PREFIX
    tensors = {f"{prefix}{name}": tensor for name, tensor in parts.items()}
    if includes_head:
        head = sequence_head_tensors(adapter.tensors, architecture)
        tensors |= {f"{_PREFIX}{name}": tensor for name, tensor in head.items()}
        config["modules_to_save"] = sorted({name.partition(".")[0] for name in head})
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    (folder / "adapter_model.safetensors").write_bytes(
        safetensors.save({name: tensor.contiguous() for name, tensor in tensors.items()}, {"format": "pt"})
    )
    write_settings(folder, adapter, with_head=not includes_head)
    (folder / "README.md").write_text(_readme(adapter, includes_head=includes_head), "utf-8")


def _exported_deltas(adapter: Adapter) -> list[ExportedDelta]:
    """The deltas of an adapter, in the order of its tensors."""
    row = architecture_of(adapter.header.backbone.architecture)
    found: dict[str, ExportedDelta] = {}
    for name, tensor in adapter.tensors.items():
        if name.startswith("head."):
            continue
        if name.startswith("layer."):
            _, layer, site, parameter = name.split(".", 3)
            path = row.sites[_PEFT_SITES.get(site, site)]
            if not isinstance(path, str):
                raise AdapterError(
                    f"{site!r} is part of a fused projection in this architecture, which peft cannot address"
                )
            module = f"{row.layers}.{layer}.{path}"
        else:
            site, _, parameter = name.partition(".")
            module = (row.embed_norm if site == EMBED_NORM else row.final_norm) or site
        found.setdefault(module, ExportedDelta(site, module, {})).tensors[parameter] = tensor
    return list(found.values())


_PEFT_SITES = {"ffn_mid": "ffn_down"}
"""In peft, gains on the feed-forward activations are gains on the input of the last linear."""


def _module_pattern(deltas: Iterable[ExportedDelta]) -> str:
    """A regular expression that matches exactly these modules."""
    return rf"(.*\.)?({'|'.join(re.escape(delta.module) for delta in deltas)})"


def _lora_files(method: LoRA, deltas: Sequence[ExportedDelta]) -> ConfigAndTensors:
    alpha = int(method.alpha) if float(method.alpha).is_integer() else method.alpha
    settings = {"peft_type": "LORA", "r": method.rank, "lora_alpha": alpha, "lora_dropout": method.dropout}
    names = {"down.weight": "lora_A.weight", "up.weight": "lora_B.weight"}
    tensors = {f"{delta.module}.{names[part]}": t for delta in deltas for part, t in delta.tensors.items()}
    return {**settings, "bias": "none"}, tensors


def _ia3_files(method: IA3, deltas: Sequence[ExportedDelta]) -> ConfigAndTensors:
    shapes = {True: (1, -1), False: (-1, 1)}
    tensors = {
        f"{delta.module}.ia3_l": delta.tensors["gain"].reshape(shapes[delta.site == "ffn_mid"]) for delta in deltas
    }
    return {
        "peft_type": "IA3",
        "feedforward_modules": _module_pattern(p for p in deltas if p.site == "ffn_mid"),
    }, tensors


def _layer_norm_files(method: LayerNormOnly, deltas: Sequence[ExportedDelta]) -> ConfigAndTensors:
    tensors = {f"{delta.module}.ln_tuning_layers.{part}": t for delta in deltas for part, t in delta.tensors.items()}
    return {"peft_type": "LN_TUNING"}, tensors


ConfigAndTensors = tuple[dict[str, Any], dict[str, Tensor]]
"""The settings for ``adapter_config.json``, and tensors by their path in the encoder."""
_WRITERS: dict[str, Callable[[Any, Sequence[ExportedDelta]], ConfigAndTensors]] = {
    LoRA.name: _lora_files,
    IA3.name: _ia3_files,
    LayerNormOnly.name: _layer_norm_files,
}


def _readme(adapter: Adapter, *, includes_head: bool) -> str:
    header = adapter.header
    auto = "AutoModelForSequenceClassification" if includes_head else "AutoModel"
    sized = f", num_labels={header.head.num_outputs}" if includes_head else ""
    what = (
        "A peft adapter for sequence classification (`SEQ_CLS`), with its head in `modules_to_save`."
        if includes_head
        else "A peft adapter for the bare encoder (`FEATURE_EXTRACTION`). Its head is in `head.safetensors`, because "
        "transformers' class for sequence classification pools differently."
    )
    model = (
        "tokenizer = AutoTokenizer.from_pretrained(backbone)",
        f"base = {auto}.from_pretrained(backbone{sized})",
        'model = PeftModel.from_pretrained(base, ".").eval()',
    )
    imports = ("from peft import PeftModel", f"from transformers import {auto}, AutoTokenizer")
    return readme(header, what, imports, model, includes_head=includes_head)
