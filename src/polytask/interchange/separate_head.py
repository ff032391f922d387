"""Stores a head in separate files next to an encoder, for libraries whose own heads pool differently.

``head.safetensors`` holds the output layer (``weight``, ``bias``) and the layers before it (``0.weight``, …).
``polytask.json`` has the settings that are needed to use them; ``README.md`` shows how, in ten lines of Python.
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

SETTINGS, HEAD = "polytask.json", "head.safetensors"


def settings_of(header: Header) -> dict[str, Any]:
    """The content of ``polytask.json``."""
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
    """The maximum tokens of a text in training; 512 if the header does not have it."""
    given = header.recipe.get("max_length")
    return given if isinstance(given, int) else 512


def write_settings(folder: Path, adapter: Adapter, *, with_head: bool) -> None:
    """Write ``polytask.json`` and, with ``with_head``, the head."""
    (folder / SETTINGS).write_text(
        json.dumps(settings_of(adapter.header), indent=2, ensure_ascii=False) + "\n", "utf-8"
    )
    if with_head:
        head = {k.removeprefix("head."): t for k, t in adapter.tensors.items() if k.startswith("head.")}
        (folder / HEAD).write_bytes(safetensors.save(head))


def read_separate_head(files: Files) -> ForeignHead | None:
    """Read the head that ``write_settings`` wrote; None if there is none.

    Raises:
        AdapterError: the files are damaged.
    """
    if not (files.has(HEAD) and files.has(SETTINGS)):
        return None
    settings = files.json(SETTINGS)
    kind, pooling = settings.get("kind"), settings.get("pooling")
    layers: Any = settings.get("prediction_head", [])
    labels: Any = settings.get("labels")
    is_valid = kind in get_args(Kind) and pooling in POOLINGS and isinstance(layers, list) and isinstance(labels, list)
    if not is_valid:
        raise AdapterError(
            f"{files.folder / SETTINGS} is incomplete: it needs kind, pooling, prediction_head and labels"
        )
    tensors = {f"head.{name}": tensor for name, tensor in files.tensors(HEAD).items()}
    if "head.bias" not in tensors:
        raise AdapterError(f"{files.folder / HEAD} does not hold a head")
    kind = cast(Kind, kind)
    layers = layer_names(prediction_layers_of(layers, kind)) if layers else ()
    return ForeignHead(tensors, cast(Pooling, pooling), layers, kind, tuple(map(str, labels)))


def saved_labels(files: Files) -> tuple[str, ...]:
    """The label names that ``write_settings`` wrote; empty if there are none."""
    labels: Any = files.json(SETTINGS).get("labels") if files.has(SETTINGS) else None
    return tuple(map(str, labels)) if isinstance(labels, list) else ()
