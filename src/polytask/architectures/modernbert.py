"""ModernBERT, Ettin, mmBERT and gte-modernbert (arXiv:2412.13663): pre-norm, rotary, windowed, gated.

The attention norm of the first layer is an identity, because the embeddings are normalised already. Queries, keys and
values are one projection (three in Ettin's decoders), and so are the two halves of the gated feed-forward sub-layer.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from polytask.architectures.row import WIDTHS, Architecture, Fused, HeadLayer


def prediction_head(config: Any) -> tuple[HeadLayer, ...]:
    """ModernBERT's prediction head: dense, activation, norm."""
    return (
        HeadLayer("dense", bias=bool(config.classifier_bias)),
        HeadLayer(config.classifier_activation),
        HeadLayer("norm", bias=bool(config.norm_bias), eps=float(config.norm_eps)),
    )


_SITES: dict[str, str | Fused] = {
    "attn_out": "attn > attn.out_drop",
    "ffn_out": "mlp",
    "attn_norm": "attn_norm",
    "ffn_norm": "mlp_norm",
    "query": Fused("attn.Wqkv", 0),
    "key": Fused("attn.Wqkv", 1),
    "value": Fused("attn.Wqkv", 2),
    "attn_dense": "attn.Wo",
    "ffn_up": "mlp.Wi",
    "ffn_down": "mlp.Wo",
    "ffn_mid": "into mlp.Wo",
}
_MODERNBERT = Architecture(
    "layers",
    "embeddings.norm",
    _SITES,
    has_pooler=False,
    fields=(
        "model_type",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
        "hidden_activation",
        "norm_eps",
        "norm_bias",
        "attention_bias",
        "mlp_bias",
        "max_position_embeddings",
        "vocab_size",
        "pad_token_id",
        "layer_types",
        "rope_parameters",
        "local_attention",
    ),
    pooling_field=("classifier_pooling", {"cls": "cls", "mean": "mean"}),
    final_norm="final_norm",
    is_pre_norm=True,
    without=frozenset({"layer.0.attn_norm"}),
    biases_vary=True,
    widths=WIDTHS | {"ffn_up": ("hidden", "gate and up")},
    head=prediction_head,
    dropout=("attn", "attention_dropout"),
    packs="gated",
)
_DECODER_SITES = _SITES | {"query": "attn.q_proj", "key": "attn.k_proj", "value": "attn.v_proj"}

MODERNBERT = {
    "modernbert": _MODERNBERT,
    "modernbert-decoder": replace(_MODERNBERT, sites=_DECODER_SITES, pooling="last", pooling_field=None, packs=None),
}
