"""Where the sites of each supported architecture are: one row of data each, no modelling code.

A site is a pair, *input from* and *output at*: ``"attention.self > attention.output.dropout"`` reads what goes into
the first module and replaces what comes out of the second; a single name is both. Paths are within one layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from torch import nn

from polytask.errors import UnsupportedArchitecture
from polytask.methods.seam import EMBED_NORM, Place

Pooling = Literal["pooler", "cls", "mean"]
POOLINGS: tuple[Pooling, ...] = ("pooler", "cls", "mean")


@dataclass(frozen=True)
class Architecture:
    """Paths of the modules that matter, and the configuration fields that determine the answers.

    ``pooling`` is what a checkpoint uses that does not say: ``pooler`` only where checkpoints bring a pretrained one.
    """

    layers: str
    embed_norm: str
    sites: Mapping[str, str]
    pooling: Pooling = "cls"
    has_pooler: bool = True
    fields: tuple[str, ...] = ()


class Located(NamedTuple):
    """A place with the modules that it reads from and writes at."""

    place: Place
    input: nn.Module
    output: nn.Module


_BERT_SITES = {
    "attn_out": "attention.self > attention.output.dropout",
    "ffn_out": "intermediate > output.dropout",
    "attn_norm": "attention.output.LayerNorm",
    "ffn_norm": "output.LayerNorm",
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attn_dense": "attention.output.dense",
    "ffn_up": "intermediate.dense",
    "ffn_down": "output.dense",
    "ffn_mid": "intermediate",
}
_MPNET_SITES = _BERT_SITES | {
    "attn_out": "attention.attn > attention.dropout",
    "attn_norm": "attention.LayerNorm",
    "query": "attention.attn.q",
    "key": "attention.attn.k",
    "value": "attention.attn.v",
    "attn_dense": "attention.attn.o",
}
_DISTILBERT_SITES = {
    "attn_out": "attention > attention.out_lin",
    "ffn_out": "ffn > ffn.dropout",
    "attn_norm": "sa_layer_norm",
    "ffn_norm": "output_layer_norm",
    "query": "attention.q_lin",
    "key": "attention.k_lin",
    "value": "attention.v_lin",
    "attn_dense": "attention.out_lin",
    "ffn_up": "ffn.lin1",
    "ffn_down": "ffn.lin2",
    "ffn_mid": "ffn.activation",
}
_BERT_FIELDS = (
    "model_type",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "layer_norm_eps",
    "max_position_embeddings",
    "vocab_size",
    "pad_token_id",
)
_DISTILBERT_FIELDS = (
    "model_type",
    "dim",
    "n_layers",
    "n_heads",
    "hidden_dim",
    "activation",
    "max_position_embeddings",
    "vocab_size",
    "pad_token_id",
)

ARCHITECTURES: dict[str, Architecture] = {
    "bert": Architecture("encoder.layer", "embeddings.LayerNorm", _BERT_SITES, "pooler", fields=_BERT_FIELDS),
    "roberta": Architecture("encoder.layer", "embeddings.LayerNorm", _BERT_SITES, fields=_BERT_FIELDS),
    "xlm-roberta": Architecture("encoder.layer", "embeddings.LayerNorm", _BERT_SITES, fields=_BERT_FIELDS),
    "distilbert": Architecture(
        "transformer.layer", "embeddings.LayerNorm", _DISTILBERT_SITES, has_pooler=False, fields=_DISTILBERT_FIELDS
    ),
    "electra": Architecture(
        "encoder.layer",
        "embeddings.LayerNorm",
        _BERT_SITES,
        has_pooler=False,
        fields=(*_BERT_FIELDS, "embedding_size"),
    ),
    "mpnet": Architecture(
        "encoder.layer",
        "embeddings.LayerNorm",
        _MPNET_SITES,
        fields=(*_BERT_FIELDS, "relative_attention_num_buckets"),
    ),
}


def architecture_of(model_type: str) -> Architecture:
    """The row of this model type.

    Raises:
        UnsupportedArchitecture: there is none.
    """
    if model_type not in ARCHITECTURES:
        raise UnsupportedArchitecture(model_type, ARCHITECTURES)
    return ARCHITECTURES[model_type]


def locate(model: nn.Module, architecture: Architecture) -> Iterator[Located]:
    """Every site of ``model`` in the order of a forward pass through the layers, ``embed_norm`` first."""
    config: Any = model.config
    embed_norm = model.get_submodule(architecture.embed_norm)
    width = _width(embed_norm)
    assert width is not None
    yield Located(Place(EMBED_NORM, None, width, width), embed_norm, embed_norm)
    layers = model.get_submodule(architecture.layers)
    for number, layer in enumerate(layers.children()):
        mid = layer.get_submodule(architecture.sites["ffn_up"]).out_features
        for site, path in architecture.sites.items():
            read, _, written = path.partition(" > ")
            output = layer.get_submodule(written or read)
            width_in = getattr(output, "in_features", None) if not written else config.hidden_size
            width_out = mid if site == "ffn_mid" else config.hidden_size if written else _width(output)
            place = Place(site, number, int(width_in or width_out), int(width_out))  # type: ignore[arg-type]
            yield Located(place, layer.get_submodule(read), output)


def _width(module: nn.Module) -> int | None:
    """The last dimension of what a linear or a LayerNorm puts out."""
    if isinstance(module, nn.Linear):
        return module.out_features
    return int(module.normalized_shape[0]) if isinstance(module, nn.LayerNorm) else None
