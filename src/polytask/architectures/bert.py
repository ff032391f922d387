"""BERT and related post-norm encoders: RoBERTa, XLM-R, DistilBERT, ELECTRA, MPNet, CamemBERT, ERNIE, RoFormer."""

from __future__ import annotations

from typing import Any

from polytask.architectures.row import Architecture, HeadLayer

BERT_SITES = {
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
_MPNET_SITES = BERT_SITES | {
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
BERT_FIELDS = (
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
_LAYERS, _NORM = "encoder.layer", "embeddings.LayerNorm"


def tanh_head(config: Any) -> tuple[HeadLayer, ...]:
    """RoBERTa's prediction head: dense and tanh."""
    return (HeadLayer("dense", bias=True), HeadLayer("tanh"))


def _activation_head(config: Any) -> tuple[HeadLayer, ...]:
    """RoFormer's prediction head: dense and the model's activation."""
    return (HeadLayer("dense", bias=True), HeadLayer(config.hidden_act))


BERT_FAMILY = {
    "bert": Architecture(_LAYERS, _NORM, BERT_SITES, "pooler", fields=BERT_FIELDS, packs="post-norm"),
    "roberta": Architecture(_LAYERS, _NORM, BERT_SITES, fields=BERT_FIELDS, first_position=None, packs="post-norm"),
    "xlm-roberta": Architecture(_LAYERS, _NORM, BERT_SITES, fields=BERT_FIELDS, first_position=None, packs="post-norm"),
    "distilbert": Architecture(
        "transformer.layer",
        _NORM,
        _DISTILBERT_SITES,
        has_pooler=False,
        fields=_DISTILBERT_FIELDS,
        packs="post-norm",
    ),
    "electra": Architecture(
        _LAYERS, _NORM, BERT_SITES, has_pooler=False, fields=(*BERT_FIELDS, "embedding_size"), packs="post-norm"
    ),
    "mpnet": Architecture(
        _LAYERS,
        _NORM,
        _MPNET_SITES,
        fields=(*BERT_FIELDS, "relative_attention_num_buckets"),
        first_position=2,
        attention=False,
        returns_tuple=True,
        packs="post-norm",
        position_bias="encoder.compute_position_bias",
    ),
    "camembert": Architecture(
        _LAYERS, _NORM, BERT_SITES, fields=BERT_FIELDS, head=tanh_head, first_position=None, packs="post-norm"
    ),
    "ernie": Architecture(
        _LAYERS,
        _NORM,
        BERT_SITES,
        "pooler",
        fields=(*BERT_FIELDS, "type_vocab_size", "use_task_id", "task_type_vocab_size"),
        packs="post-norm",
    ),
    "roformer": Architecture(
        _LAYERS,
        _NORM,
        BERT_SITES,
        has_pooler=False,
        fields=(*BERT_FIELDS, "embedding_size", "rotary_value", "type_vocab_size"),
        head=_activation_head,
        attention=False,
        returns_tuple=True,
    ),
}
