"""ALBERT (arXiv:1909.11942): one set of weights serves all layers.

Tasks differ from layer to layer all the same, so a model of our own gets as many modules as it has layers, which share
the parameters.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from polytask.architectures.bert import BERT_FIELDS
from polytask.architectures.row import Architecture
from polytask.errors import BackboneError


class FirstTokenPooler(nn.Linear):
    """ALBERT's pooler, which is a linear there, as a module that pools: the first token, linear, tanh."""

    def forward(self, hidden: Tensor) -> Tensor:
        """``[B, T, D]`` (or the first tokens alone, ``[B, D]``) to ``[B, D]``."""
        first = hidden if hidden.dim() == 2 else hidden[:, 0]
        return torch.tanh(super().forward(first))


def unshare(model: nn.Module) -> None:
    """One module a layer, all with the parameters of their group; and a pooler that pools.

    Raises:
        BackboneError: a group has several layers, of which no checkpoint is known.
    """
    config: Any = model.config
    encoder: Any = model.get_submodule("encoder")
    depth, groups = int(config.num_hidden_layers), list(encoder.albert_layer_groups)
    if config.inner_group_num != 1:
        raise BackboneError(
            f"inner_group_num is {config.inner_group_num}; only ALBERTs with one layer a group are read"
        )
    if len(groups) < depth:
        own = (groups[layer * len(groups) // depth] for layer in range(depth))
        encoder.albert_layer_groups = nn.ModuleList(map(_twin, own))
        config.num_hidden_groups = depth
    if isinstance(model.pooler, nn.Linear):
        model.pooler.__class__ = FirstTokenPooler
        model.pooler_activation = nn.Identity()


def _twin(module: nn.Module) -> nn.Module:
    """Another module with the same parameters."""
    kept: list[Any] = [*module.parameters(), *(part.config for part in module.modules() if "config" in vars(part))]
    return copy.deepcopy(module, {id(part): part for part in kept})


_LAYER = "albert_layers.0"

ALBERT = {
    "albert": Architecture(
        "encoder.albert_layer_groups",
        "embeddings.LayerNorm",
        {
            "attn_out": f"{_LAYER}.attention > {_LAYER}.attention.output_dropout",
            "ffn_out": f"{_LAYER}.ffn > {_LAYER}.ffn_output",
            "attn_norm": f"{_LAYER}.attention.LayerNorm",
            "ffn_norm": f"{_LAYER}.full_layer_layer_norm",
            "query": f"{_LAYER}.attention.query",
            "key": f"{_LAYER}.attention.key",
            "value": f"{_LAYER}.attention.value",
            "attn_dense": f"{_LAYER}.attention.dense",
            "ffn_up": f"{_LAYER}.ffn",
            "ffn_down": f"{_LAYER}.ffn_output",
            "ffn_mid": f"into {_LAYER}.ffn_output",
        },
        "pooler",
        fields=(*BERT_FIELDS, "embedding_size", "num_hidden_groups", "inner_group_num", "type_vocab_size"),
        dropout=(f"{_LAYER}.attention", "attention_probs_dropout_prob"),
        shares_layers=True,
        prepare=unshare,
    )
}
