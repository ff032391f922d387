"""BERT with rotary positions: the embedding models gte, nomic-embed and jina-embeddings-v3."""

from __future__ import annotations

from dataclasses import replace

from polytask.architectures.bert import BERT_FIELDS, tanh_head
from polytask.architectures.row import WIDTHS, Architecture

_SITES = {
    "attn_out": "self_attn > post_attention_dropout",
    "ffn_out": "mlp > post_mlp_dropout",
    "attn_norm": "post_attention_layernorm",
    "ffn_norm": "post_mlp_layernorm",
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "attn_dense": "self_attn.o_proj",
}
_GATED = _SITES | {
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "ffn_mid": "into mlp.down_proj",
}
_GTE = Architecture(
    "layers",
    "embeddings.LayerNorm",
    _GATED,
    fields=(*BERT_FIELDS, "head_dim", "type_vocab_size", "rope_parameters"),
    biases_vary=True,
    widths=WIDTHS | {"ffn_gate": ("hidden", "intermediate")},
    head=tanh_head,
    dropout=("self_attn", "attention_probs_dropout_prob"),
)
_NOMIC = replace(_GTE, pooling="mean", head=Architecture.head)

GTE_FAMILY = {
    "gte": _GTE,
    "nomic_bert": _NOMIC,
    "jina_embeddings_v3": replace(
        _NOMIC, sites=_SITES | {"ffn_up": "mlp.fc1", "ffn_down": "mlp.fc2", "ffn_mid": "into mlp.fc2"}
    ),
}
