"""DeBERTa (arXiv:2006.03654) and DeBERTa-v2, v3, mDeBERTa-v3 (arXiv:2111.09543): attention to content and position.

If ``share_att_key`` is set, the projections of queries and keys also project the position embeddings, which all texts
share. A delta on these projections therefore changes the projected positions, too (as in peft), and they differ from
row to row: ``PositionScores`` computes them for each row.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from polytask.architectures.bert import BERT_FIELDS, BERT_SITES
from polytask.architectures.row import Architecture, Fused, HeadLayer

_SELF = "attention.self"


class PositionScores:
    """The content-position scores of one attention layer as in transformers, with positions projected for each row."""

    def __init__(self, attention: nn.Module) -> None:
        self.attention: Any = attention

    def __call__(
        self, query: Tensor, key: Tensor, relative: Tensor, embeddings: Tensor, scale_factor: int
    ) -> Tensor | int:
        """The scores that are added to the content-content scores.

        Args:
            query, key: ``[BH, T, D/H]``.
            relative: the bucket of the distance between two tokens, ``[1, T, T]``.
            embeddings: the embeddings of the buckets, ``[2S, D]``.
            scale_factor: the number of kinds of scores that are added, the content-content scores included.

        Returns:
            ``[BH, T, T]``.
        """
        span, scale = self.attention.pos_ebd_size, (query.shape[-1] * scale_factor) ** -0.5
        num_rows = len(query) // self.attention.num_attention_heads
        places = embeddings[: 2 * span].unsqueeze(0)
        scores: Tensor | int = 0
        if "c2p" in self.attention.pos_att_type:
            of_key = self._project_positions(self.attention.key_proj, places, num_rows)
            scores = scores + _position_scores(query, of_key, relative + span, 2 * span) * scale
        if "p2c" in self.attention.pos_att_type:
            of_query = self._project_positions(self.attention.query_proj, places, num_rows)
            scores = scores + _position_scores(key, of_query, span - relative, 2 * span).mT * scale
        return scores

    def _project_positions(self, projection: nn.Module, places: Tensor, num_rows: int) -> Tensor:
        """The projected positions of each row, ``[BH, 2S, D/H]``; computed once for all if the site has no deltas."""
        if not projection._forward_hooks:
            projected = projection(places).expand(num_rows, -1, -1)
        else:
            projected = projection(places.expand(num_rows, -1, -1))
        heads: Tensor = self.attention.transpose_for_scores(projected, self.attention.num_attention_heads)
        return heads


def _position_scores(content: Tensor, places: Tensor, index: Tensor, num_places: int) -> Tensor:
    """The score of each token with the position of each other token, ``[BH, T, T]``."""
    scores = torch.bmm(content, places.mT)
    which = index.clamp(0, num_places - 1).view(1, *index.shape[-2:])
    return torch.gather(scores, -1, which.expand(len(scores), -1, -1))


def score_positions_by_row(model: nn.Module) -> None:
    """Compute position scores row by row; without dropout on the position embeddings, which no single row owns."""
    config: Any = model.config
    for layer in model.get_submodule("encoder.layer").children():
        attention: Any = layer.get_submodule(_SELF)
        if not config.relative_attention:
            continue
        attention.pos_dropout = nn.Identity()
        if getattr(config, "share_att_key", False):
            attention.disentangled_attention_bias = PositionScores(attention)


def context_pooler(config: Any) -> tuple[HeadLayer, ...]:
    """DeBERTa's prediction head: dense and activation."""
    return (HeadLayer("dense", bias=True), HeadLayer(config.pooler_hidden_act))


_V2_SITES = BERT_SITES | {
    "query": f"{_SELF}.query_proj",
    "key": f"{_SELF}.key_proj",
    "value": f"{_SELF}.value_proj",
}
_V1_SITES = BERT_SITES | {
    "query": Fused(f"{_SELF}.in_proj", 0, per_head=True, bias=f"{_SELF}.q_bias"),
    "key": Fused(f"{_SELF}.in_proj", 1, per_head=True),
    "value": Fused(f"{_SELF}.in_proj", 2, per_head=True, bias=f"{_SELF}.v_bias"),
}
_FIELDS = (
    *BERT_FIELDS,
    "embedding_size",
    "type_vocab_size",
    "relative_attention",
    "max_relative_positions",
    "pos_att_type",
    "position_biased_input",
)

DEBERTA_FAMILY = {
    "deberta-v2": Architecture(
        "encoder.layer",
        "embeddings.LayerNorm",
        _V2_SITES,
        has_pooler=False,
        fields=(
            *_FIELDS,
            "position_buckets",
            "share_att_key",
            "norm_rel_ebd",
            "conv_kernel_size",
            "conv_groups",
            "conv_act",
            "attention_head_size",
        ),
        head=context_pooler,
        attention=False,
        returns_tuple=True,
        prepare=score_positions_by_row,
    ),
    "deberta": Architecture(
        "encoder.layer",
        "embeddings.LayerNorm",
        _V1_SITES,
        has_pooler=False,
        fields=(*_FIELDS, "talking_head"),
        biases_vary=True,
        eps="variance_epsilon",
        head=context_pooler,
        attention=False,
        returns_tuple=True,
        prepare=score_positions_by_row,
    ),
}
