"""ALBERT (arXiv:1909.11942): all layers share one set of weights.

Deltas differ from layer to layer, so the model gets one module for each layer, all with the same parameters.
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
    """ALBERT's pooler, a linear in transformers, as a module that pools: first token, linear, tanh."""

    def forward(self, hidden: Tensor) -> Tensor:
        """``[B, T, D]`` (or the first tokens alone, ``[B, D]``) to ``[B, D]``."""
        first = hidden if hidden.dim() == 2 else hidden[:, 0]
        return torch.tanh(super().forward(first))


def give_each_layer_a_module(model: nn.Module) -> None:
    """Replace the layer groups by one module a layer that shares its group's parameters, and replace the pooler.

    Raises:
        BackboneError: a group has several layers; no known checkpoint has.
    """
    config: Any = model.config
    encoder: Any = model.get_submodule("encoder")
    depth, groups = int(config.num_hidden_layers), list(encoder.albert_layer_groups)
    if config.inner_group_num != 1:
        raise BackboneError(
            f"inner_group_num is {config.inner_group_num}; only ALBERT models with one layer a group are supported"
        )
    if len(groups) < depth:
        own = (groups[layer * len(groups) // depth] for layer in range(depth))
        encoder.albert_layer_groups = nn.ModuleList(map(_copy_sharing_parameters, own))
        config.num_hidden_groups = depth
    if isinstance(model.pooler, nn.Linear):
        model.pooler.__class__ = FirstTokenPooler
        model.pooler_activation = nn.Identity()


def _copy_sharing_parameters(module: nn.Module) -> nn.Module:
    """A copy of a module that shares its parameters."""
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
        prepare=give_each_layer_a_module,
    )
}
