"""A head in files beside an encoder, for readers whose own classes pool otherwise than the adapter does.

``head.safetensors`` holds the output layer (``weight``, ``bias``) and the layers before it (``0.weight``, …);
``polytask.json`` says how to read a text with them, for programs, and ``README.md`` in ten lines of Python.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast, get_args

from safetensors import torch as safetensors

from polytask.adapters.adapter import Adapter
from polytask.adapters.header import Header, prediction_layers_of
from polytask.architectures import POOLINGS, Pooling
from polytask.data.task import Kind
from polytask.errors import AdapterError
from polytask.interchange.files import Files
from polytask.interchange.foreign import ForeignHead
from polytask.interchange.head_layers import layer_names

FACTS, HEAD = "polytask.json", "head.safetensors"


def facts_of(header: Header) -> dict[str, Any]:
    """What ``polytask.json`` says."""
    return {
        "task": header.task,
        "kind": header.head.kind,
        "labels": list(header.head.labels),
        "pooling": header.pooling,
        "prediction_head": [dict(layer) for layer in header.prediction_head],
        "max_length": max_length(header),
        "backbone": header.backbone.name,
        "digest": header.digest,
    }


def max_length(header: Header) -> int:
    """The tokens of a text that the adapter was trained with; 512 where its header does not say."""
    given = header.recipe.get("max_length")
    return given if isinstance(given, int) else 512


def write_beside(folder: Path, adapter: Adapter, *, with_head: bool) -> None:
    """The facts, and the head where the encoder's files do not have it."""
    (folder / FACTS).write_text(json.dumps(facts_of(adapter.header), indent=2, ensure_ascii=False) + "\n", "utf-8")
    if with_head:
        head = {k.removeprefix("head."): t for k, t in adapter.tensors.items() if k.startswith("head.")}
        (folder / HEAD).write_bytes(safetensors.save(head))


def head_beside(files: Files) -> ForeignHead | None:
    """The head in files that ``write_beside`` wrote; None where there is none.

    Raises:
        AdapterError: they are damaged.
    """
    if not (files.has(HEAD) and files.has(FACTS)):
        return None
    facts = files.json(FACTS)
    kind, pooling = facts.get("kind"), facts.get("pooling")
    layers: Any = facts.get("prediction_head", [])
    labels: Any = facts.get("labels")
    is_sound = kind in get_args(Kind) and pooling in POOLINGS and isinstance(layers, list) and isinstance(labels, list)
    if not is_sound:
        raise AdapterError(f"{files.folder / FACTS} does not say how to read a text with the head beside it")
    tensors = {f"head.{name}": tensor for name, tensor in files.tensors(HEAD).items()}
    if "head.bias" not in tensors:
        raise AdapterError(f"{files.folder / HEAD} holds no head")
    kind = cast(Kind, kind)
    layers = layer_names(prediction_layers_of(layers, kind)) if layers else ()
    return ForeignHead(tensors, cast(Pooling, pooling), layers, kind, tuple(map(str, labels)))
