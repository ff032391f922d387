"""Converts checkpoints in other formats to a backbone's folder: safetensors and a fast tokenizer.

Pickled weights are read with ``weights_only=True``, which loads tensors and runs no code; GGUF files are read by
transformers.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModel
from transformers.utils import quantization_config

from polytask.backbones.checkpoint import checkpoint_source, find_file, quiet_transformers
from polytask.backbones.loading import load_backbone
from polytask.backbones.tokenizer import load_tokenizer
from polytask.errors import BackboneError, WriteError
from polytask.files import whole_file

INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
POOLING = "1_Pooling/config.json"
INNER = "0_Transformer"
"""The folder of the model in older sentence-transformers folders."""


def convert(source: str | Path, out: str | Path) -> Path:
    """Write a checkpoint as a backbone's folder, and load the result once as a check.

    Args:
        source: a folder, a hub id or a ``.gguf`` file.
        out: the folder to write; it must not exist or must be empty.

    Returns:
        ``out``.

    Raises:
        BackboneError: the checkpoint cannot be read, or is not a supported backbone.
        WriteError: ``out`` cannot be written, or is not empty.
    """
    target = Path(out)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise WriteError(target, "it exists and is not empty")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
        part.chmod(0o755)
    except OSError as error:
        raise WriteError(target, error.strerror or error) from error
    try:
        _write(str(source), part)
        load_backbone(part, device="cpu", dtype="float32")
        part.replace(target)
    except OSError as error:
        raise WriteError(target, error.strerror or error) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target


def _write(source: str, folder: Path) -> None:
    if source.endswith(".gguf"):
        _write_gguf(Path(source), folder)
        return
    source = checkpoint_source(source)
    inner = Path(source) / INNER
    model = str(inner) if (inner / "config.json").is_file() else source
    _copy(model, "config.json", folder)
    _copy_pooling(source, folder)
    load_tokenizer(model).save_pretrained(folder)
    _save(dict(_tensors(model)), folder)


def _save(tensors: dict[str, Tensor], folder: Path) -> None:
    with whole_file(folder / "model.safetensors") as part:
        save_file(tensors, part, metadata={"format": "pt"})


def _copy(source: str, name: str, folder: Path) -> None:
    found = find_file(source, name)
    if found is None:
        raise BackboneError(f"{source} has no {name}. A checkpoint is a folder with config.json and its weights")
    (folder / name).parent.mkdir(exist_ok=True)
    shutil.copyfile(found, folder / name)


def _copy_pooling(source: str, folder: Path) -> None:
    """Copy the pooling of a sentence-transformers folder; its model moves to the folder itself."""
    found = find_file(source, "modules.json")
    if found is None:
        return
    modules = json.loads(found.read_text(encoding="utf-8"))
    moved = [{**module, "path": ""} if module.get("path") == INNER else module for module in modules]
    (folder / "modules.json").write_text(json.dumps(moved, indent=2), encoding="utf-8")
    for module in moved:
        if str(module.get("type", "")).endswith("Pooling"):
            _copy(source, f"{module['path']}/config.json", folder)


def _tensors(source: str) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of a checkpoint in one or several files, each with its own memory."""
    for file in _weight_files(source):
        for name, tensor in _read(file).items():
            if isinstance(tensor, Tensor):
                yield name, tensor.detach().clone().contiguous()


def _weight_files(source: str) -> list[Path]:
    for name in WEIGHTS:
        if (found := find_file(source, name)) is not None:
            return [found]
    for name in INDEXES:
        if (index := find_file(source, name)) is not None:
            parts = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
            files = [find_file(source, part) for part in parts]
            if None in files:
                raise BackboneError(f"{source} lacks {parts[files.index(None)]}, a part of its weights")
            return [file for file in files if file is not None]
    raise BackboneError(f"{source} has no weights: none of {', '.join((*WEIGHTS, *INDEXES))} is there")


def _read(file: Path) -> dict[str, Any]:
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BackboneError(f"{file} holds more than tensors, or is damaged, and is not read: {reason}") from error
    return state


def _write_gguf(file: Path, folder: Path) -> None:
    if any(importlib.util.find_spec(package) is None for package in ("gguf", "accelerate")):
        raise BackboneError("reading GGUF needs a package that is not installed: pip install 'polytask[gguf]'")
    if not file.is_file():
        raise BackboneError(f"there is no file {file}")
    packs: Any = getattr(
        quantization_config, "GgufConfig", None
    )  # newer versions keep weights quantized unless told otherwise
    unpacked = {} if packs is None else {"quantization_config": packs(dequantize=True)}
    settings: dict[str, Any] = {"gguf_file": file.name, "trust_remote_code": False, **unpacked}
    try:
        with quiet_transformers():
            model: Any = AutoModel.from_pretrained(str(file.parent), dtype=torch.float32, **settings)
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BackboneError(f"transformers cannot read {file}: {reason}") from error
    config = {k: v for k, v in model.config.to_dict().items() if k not in ("quantization_config", "_name_or_path")}
    (folder / "config.json").write_text(json.dumps(config, indent=2, default=str), encoding="utf-8")
    state = {name: tensor.clone().contiguous() for name, tensor in model.state_dict().items()}
    _save(state, folder)
    load_tokenizer(str(file.parent), gguf_file=file.name).save_pretrained(folder)
