"""Small adapters for tests, of every method, and files with anything in them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from polytask.adapters.adapter import Adapter
from polytask.methods import (
    IA3,
    BitFit,
    DeltaMethod,
    FullFineTuning,
    Houlsby,
    LayerNormOnly,
    LoRA,
    Method,
    Parallel,
    Pfeiffer,
    Place,
    TopLayers,
)

METHODS: tuple[Method, ...] = (
    Houlsby(size=3),
    Houlsby(size=2, layers=1),
    Houlsby(size=2, layers=(0,)),
    Pfeiffer(size=3),
    Parallel(size=3),
    LoRA(rank=2),
    LoRA(rank=2, linears=("ffn_up", "ffn_down", "attn_dense")),
    IA3(),
    BitFit(),
    LayerNormOnly(),
    FullFineTuning(),
    TopLayers(n=1),
)


@dataclass(frozen=True)
class Known:
    """What an adapter knows of a backbone: one of two layers, 8 wide."""

    name: str = "tiny"
    architecture: str = "bert"
    hidden: int = 8
    num_layers: int = 2
    fingerprint: str = "f" * 64
    tokenizer_fingerprint: str = "e" * 64
    pooling: Any = "mean"


def places(backbone: Known = Known(), embedding: int = 6, intermediate: int = 12) -> list[Place]:
    hidden = backbone.hidden
    widths = dict.fromkeys("attn_out ffn_out attn_norm ffn_norm".split(), (hidden, hidden))
    widths |= dict.fromkeys("query key value attn_dense".split(), (hidden, hidden))
    widths |= {"ffn_up": (hidden, intermediate), "ffn_down": (intermediate, hidden)}
    widths |= {"ffn_mid": (intermediate, intermediate)}
    found = [Place("embed_norm", None, embedding, embedding)]
    for layer in range(backbone.num_layers):
        found += [Place(site, layer, *width) for site, width in widths.items()]
    return found


def tensors_of(method: Method, num_outputs: int = 2, seed: int = 0, **sizes: int) -> dict[str, Tensor]:
    """Random tensors for every place of the method, and a head."""
    generator = torch.Generator().manual_seed(seed)
    shapes: dict[str, tuple[int, ...]] = {"head.weight": (num_outputs, 8), "head.bias": (num_outputs,)}
    if isinstance(method, DeltaMethod):
        for place in places(**sizes):
            if method.acts_at(place, 2):
                parameters = method.delta(place).named_parameters()
                shapes |= {f"{place.name}.{name}": tuple(parameter.shape) for name, parameter in parameters}
    else:
        for layer in range(2 - getattr(method, "n", 2), 2):
            shapes[f"backbone.encoder.layer.{layer}.output.dense.weight"] = (8, 12)
        shapes["backbone.pooler.dense.bias"] = (8,)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def created(
    method: Method = METHODS[0], seed: int = 0, sizes: Mapping[str, int] | None = None, **given: Any
) -> Adapter:
    """An adapter; ``given`` overrides what it says of itself."""
    tensors = given.pop("tensors", None)
    said = {"task": "spam", "kind": "classification", "labels": ["ham", "spam"], "metric": "accuracy", "score": 0.75}
    said |= {"backbone": Known(), "recipe": {"seed": seed, "epochs": 3}, "versions": {"torch": "2.13.0"}}
    said |= {"result": {"rows": 10, "validation": {"accuracy": 0.75}}, **given}
    return Adapter.create(tensors or tensors_of(method, seed=seed, **(sizes or {})), method=method, **said)


def same(one: Adapter, other: Adapter) -> bool:
    """Equal to the last bit, ``created`` aside: no digest covers it."""
    headers = [{**adapter.header.to_object(), "created": ""} for adapter in (one, other)]
    if headers[0] != headers[1] or set(one.tensors) != set(other.tensors):
        return False
    return all(
        tensor.numpy().tobytes() == other.tensors[name].numpy().tobytes() and tensor.shape == other.tensors[name].shape
        for name, tensor in one.tensors.items()
    )


def written(path: Path, header: object, tensors: Mapping[str, Tensor]) -> Path:
    """A safetensors file with any header at all, made without Polytask."""
    text = header if isinstance(header, str) else json.dumps(header)
    entries: dict[str, Any] = {"__metadata__": {"polytask": text}}
    content = b""
    for name, tensor in tensors.items():
        data = tensor.contiguous().view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
        dtype = {torch.float32: "F32", torch.float16: "F16", torch.float64: "F64", torch.int32: "I32"}[tensor.dtype]
        place = [len(content), len(content) + len(data)]
        entries[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": place}
        content += data
    return raw(path, json.dumps(entries).encode(), content)


def raw(path: Path, preamble: bytes, content: bytes) -> Path:
    """A file that begins as safetensors files do."""
    path.write_bytes(len(preamble).to_bytes(8, "little") + preamble + content)
    return path
