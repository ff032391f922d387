"""Loads backbones.

A backbone is loaded from safetensors only, without code from the checkpoint and without randomly initialized modules:
what the checkpoint lacks (a pooler, for example) is not used, because random weights would differ on every load.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers import AutoModel, PreTrainedConfig

from polytask.architectures import POOLINGS, Architecture, Pooling, architecture_of
from polytask.backbones.backbone import Backbone
from polytask.backbones.checkpoint import (
    checkpoint_source,
    declared_pooling,
    loading_error,
    may_have_pooler,
    quiet_transformers,
    read_config_json,
    read_model_config,
)
from polytask.backbones.checks import check_fits, replace_unsupported, warn_of_unused
from polytask.backbones.fast import attention
from polytask.backbones.fast.int8 import check_int8, use_int8
from polytask.backbones.fast.patching import use_fast_layers
from polytask.backbones.fingerprint import fingerprint_of, tokenizer_fingerprint
from polytask.backbones.hub import cache_if_unreachable
from polytask.backbones.partial_pass import wrap_layers
from polytask.backbones.precision import INT8, dtype_named
from polytask.backbones.tokenizer import load_tokenizer
from polytask.dropout import key_dropouts
from polytask.errors import BackboneError, UnknownName
from polytask.memory import keep_some_freed_memory
from polytask.threads import limit_threads


def load_backbone(
    name: str | Path,
    *,
    device: str | int | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    pooling: Pooling | None = None,
) -> Backbone:
    """Load a frozen backbone.

    Args:
        name: a hub id, a local folder, or ``minilm`` (the packaged all-MiniLM-L6-v2 when it is installed).
        device: ``cpu``, ``cuda``, …, or ``auto`` for a GPU when there is one.
        dtype: ``float32``, ``bfloat16`` or torch's own, or ``auto`` for the faster one on this machine (measured);
            ``int8`` to answer with the layers' linears in int8 and all else as with ``auto``.
        pooling: ``pooler``, ``cls``, ``mean``, ``last`` or ``late`` (default: as the checkpoint says).

    Raises:
        BackboneError: there is no such model, or it cannot be used; the message says why.
        UnknownName: there is no such dtype or pooling.
    """
    if not isinstance(name, str | Path) or not str(name).strip():
        shown = " ".join(repr(name).split())
        raise BackboneError(f"a backbone is named by a hub id or a folder, not by {type(name).__name__} {shown:.40}")
    if pooling is not None and pooling not in POOLINGS:
        raise UnknownName("pooling", pooling, POOLINGS)
    source = checkpoint_source(str(name))
    with cache_if_unreachable(source):
        return _loaded(str(name), source, device, dtype, pooling)


def _loaded(
    name: str, source: str, device: str | int | torch.device, dtype: str | torch.dtype, pooling: Pooling | None
) -> Backbone:
    config = read_model_config(source)
    row = architecture_of(config.model_type)
    replace_unsupported(source, config)
    wanted = pooling or declared_pooling(source) or row.pooling_of(config)
    where = _device(device)
    is_int8 = str(dtype).removeprefix("torch.") == INT8
    if is_int8:
        check_int8(where)
    limit_threads()
    model = _load_model(source, config, row, wanted)
    if wanted == "pooler" and getattr(model, "pooler", None) is None:
        if pooling == "pooler":
            raise BackboneError(f"{name} has no pretrained pooler. Choose pooling 'cls' or 'mean'")
        wanted = "cls"
    tokenizer = load_tokenizer(source)
    check_fits(source, tokenizer, model, row)
    fingerprint = fingerprint_of(model, row)
    prepare(model, row)
    _move(model.requires_grad_(False).eval(), where, dtype_named("auto" if is_int8 else dtype, where))
    if is_int8:
        use_int8(model.get_submodule(row.layers))
        keep_some_freed_memory()  # new memory for the tensors beside an int8 product takes a quarter of its time
    backbone = Backbone(
        name, model, tokenizer, config.model_type, wanted, fingerprint, tokenizer_fingerprint(tokenizer)
    )
    key_dropouts(model, backbone.dropout_source)
    wrap_layers(model, row)
    use_fast_layers(model, row)
    return backbone


def prepare(model: nn.Module, row: Architecture) -> None:
    """Change a model once after loading, as its architecture requires."""
    config: Any = model.config
    config.use_cache = False
    if row.prepare is not None:
        row.prepare(model)
    if row.dropout is not None:  # for ``attention``, which uses a dropout module
        path, rate = row.dropout
        for layer in model.get_submodule(row.layers).children():
            layer.get_submodule(path).dropout = nn.Dropout(float(getattr(config, rate)))


def _move(model: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Move a model to a device and its parameters to a type; buffers keep fp32, which rotary frequencies need."""
    model.to(device)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)


def empty_model(config: str | Path | Mapping[str, Any]) -> tuple[nn.Module, Architecture]:
    """A model without weights (on the meta device), from a folder, a ``config.json`` or its content.

    It is enough to count parameters and list sites, and needs no memory and no network.
    """
    if isinstance(config, str | Path):
        config = read_config_json(Path(config))
    model_type = str(config.get("model_type", "(none given)"))
    row = architecture_of(model_type)
    settings = {k: v for k, v in config.items() if k not in ("model_type", "transformers_version")}
    parsed = transformers.CONFIG_MAPPING[model_type](**settings)
    with torch.device("meta"):
        model = AutoModel.from_config(parsed)
    prepare(model, row)
    return model, row


def empty_backbone(name: str | Path) -> tuple[nn.Module, Architecture]:
    """The model that ``load_backbone(name)`` would load, without weights, from its configuration only."""
    source = checkpoint_source(str(name))
    config = read_model_config(source)
    row = architecture_of(config.model_type)
    pooling = declared_pooling(source) or row.pooling_of(config)
    has_pooler = pooling == "pooler" and may_have_pooler(source)
    with torch.device("meta"):
        model = AutoModel.from_config(config, **({"add_pooling_layer": has_pooler} if row.has_pooler else {}))
    prepare(model, row)
    return model, row


def _device(name: str | int | torch.device) -> torch.device:
    if not isinstance(name, str | int | torch.device):
        raise BackboneError(f"a device is named as in torch, such as 'cpu' or 'cuda', not {name!r}")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise BackboneError(f"the device {name!r} cannot be used here ({reason}). Try 'cpu' or 'auto'") from None
    return device


def _load_model(source: str, config: PreTrainedConfig, row: Architecture, pooling: Pooling) -> nn.Module:
    """The model with the checkpoint's tensors only; without a pooler if the checkpoint has none."""
    extra = {"add_pooling_layer": pooling == "pooler"} if row.has_pooler else {}
    try:
        with quiet_transformers():
            model, report = AutoModel.from_pretrained(
                source,
                config=config,
                dtype="auto",
                use_safetensors=True,
                trust_remote_code=False,
                attn_implementation=attention.NAME if row.attention else None,
                output_loading_info=True,
                **extra,
            )
    except Exception as error:
        raise loading_error(source, error) from error
    warn_of_unused(source, report["unexpected_keys"])
    missing = {key for key in report["missing_keys"] if not key.endswith("position_ids")}
    if pooling == "pooler" and missing and all(key.startswith("pooler.") for key in missing):
        model.pooler = None
        missing = set()
    if missing or report["mismatched_keys"]:
        lacking = ", ".join(sorted(missing)[:3]) or str(report["mismatched_keys"])
        raise BackboneError(f"the checkpoint of {source} lacks tensors of its own architecture: {lacking}, …")
    return model  # type: ignore[no-any-return]
