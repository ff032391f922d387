"""The heads of transformers' sequence classification classes, one table row for each architecture.

If an adapter's pooling and head match such a class, the head can be stored in it; otherwise it is stored in separate
files (``separate_head``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers import CONFIG_MAPPING, AutoModelForSequenceClassification

from polytask.adapters.header import Header
from polytask.architectures import Pooling
from polytask.errors import AdapterError
from polytask.interchange.foreign import ForeignHead
from polytask.interchange.head_layers import layer_names


@dataclass(frozen=True)
class SequenceHead:
    """The pooling of such a class, the layers of its head, and its modules by our tensor names."""

    pooling: Pooling
    layers: tuple[str, ...]
    modules: Mapping[str, str]


_DENSE = {"head.0": "classifier.dense", "head": "classifier.out_proj"}
SEQUENCE_HEADS: dict[str, SequenceHead] = {
    "bert": SequenceHead("pooler", (), {"head": "classifier"}),
    "roberta": SequenceHead("cls", ("dense", "tanh"), _DENSE),
    "xlm-roberta": SequenceHead("cls", ("dense", "tanh"), _DENSE),
    "distilbert": SequenceHead("cls", ("dense", "relu"), {"head.0": "pre_classifier", "head": "classifier"}),
    "electra": SequenceHead("cls", ("dense", "gelu"), _DENSE),
    "mpnet": SequenceHead("cls", ("dense", "tanh"), _DENSE),
}
WITH_POOLER = SequenceHead("cls", ("dense", "tanh"), {"head.0": "pooler.dense", "head": "classifier"})
"""BERT's head if the file includes a trained pooler, which is a dense layer and tanh."""


def matches_sequence_class(header: Header) -> bool:
    """Whether an adapter's pooling and head match transformers' class for its architecture."""
    own = SEQUENCE_HEADS.get(header.backbone.architecture)
    return own is not None and own.pooling == header.pooling and own.layers == layer_names(header.prediction_layers)


def read_sequence_head(tensors: Mapping[str, Tensor], model_type: str) -> ForeignHead:
    """Read a head from tensors with the names of such a class, such as ``classifier.weight``.

    Raises:
        AdapterError: the tensors are not such a head.
    """
    own = SEQUENCE_HEADS.get(model_type)
    if own is None:
        raise AdapterError(f"heads of {model_type} classifiers are not supported")
    if model_type == "bert" and "pooler.dense.weight" in tensors:
        own = WITH_POOLER
    names = {
        f"{ours}.{part}": f"{theirs}.{part}" for ours, theirs in own.modules.items() for part in ("weight", "bias")
    }
    missing = [theirs for theirs in names.values() if theirs not in tensors]
    if missing:
        raise AdapterError(
            f"the file has no head: {missing[0]} is missing. Save the trained classifier with the "
            "adapter (modules_to_save in peft, with_head=True in adapters)"
        )
    found = {ours: tensors[theirs] for ours, theirs in names.items()}
    left = sorted(set(tensors) - set(names.values()))
    if left:
        raise AdapterError(f"the file has trained tensors that an adapter cannot hold: {', '.join(left[:3])}")
    return ForeignHead(found, own.pooling, own.layers)


def sequence_head_tensors(tensors: Mapping[str, Tensor], model_type: str) -> dict[str, Tensor]:
    """The tensors of an adapter's head under the names of such a class."""
    modules = SEQUENCE_HEADS[model_type].modules
    return {
        f"{theirs}.{part}": tensors[f"{ours}.{part}"] for ours, theirs in modules.items() for part in ("weight", "bias")
    }


def encoder_prefix(model_type: str) -> str:
    """The prefix of the encoder in the model with a head, such as ``bert.``."""
    mapping: Any = AutoModelForSequenceClassification._model_mapping
    return f"{mapping[CONFIG_MAPPING[model_type]].base_model_prefix}."
