"""Llama, Qwen2, Qwen3, Gemma 3 and EuroBERT: pre-norm, rotary, gated, RMSNorm. The causal ones pool the last token.

Gemma has a norm before and after each sub-layer and multiplies by ``1 + weight``. The norms of single attention heads
(Qwen3, Gemma) are not sites: they stay frozen.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from polytask.architectures.row import WIDTHS, Architecture, HeadLayer

_SITES = {
    "attn_out": "self_attn > self_attn.o_proj",
    "ffn_out": "mlp",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "attn_dense": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "ffn_mid": "into mlp.down_proj",
}
_FIELDS = (
    "model_type",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
    "hidden_act",
    "hidden_activation",
    "rms_norm_eps",
    "attention_bias",
    "mlp_bias",
    "max_position_embeddings",
    "vocab_size",
    "rope_parameters",
    "layer_types",
    "sliding_window",
)
GATED_WIDTHS = WIDTHS | {
    "query": ("hidden", "query"),
    "key": ("hidden", "key"),
    "value": ("hidden", "key"),
    "attn_dense": ("query", "hidden"),
    "ffn_gate": ("hidden", "intermediate"),
}
_LLAMA = Architecture(
    "layers",
    None,
    _SITES,
    "last",
    has_pooler=False,
    fields=_FIELDS,
    final_norm="norm",
    is_pre_norm=True,
    norm="rms",
    eps="variance_epsilon",
    biases_vary=True,
    widths=GATED_WIDTHS,
    dropout=("self_attn", "attention_dropout"),
)
_GEMMA_SITES = _SITES | {
    "attn_out": "self_attn > post_attention_layernorm",
    "attn_post_norm": "post_attention_layernorm",
    "ffn_out": "mlp > post_feedforward_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "ffn_post_norm": "post_feedforward_layernorm",
}


def dense_head(config: Any) -> tuple[HeadLayer, ...]:
    """EuroBERT's prediction head: dense and GELU."""
    return (HeadLayer("dense", bias=True), HeadLayer("gelu"))


LLAMA_FAMILY = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "smollm3": replace(_LLAMA, fields=(*_FIELDS, "no_rope_layers", "use_sliding_window")),
    "gemma3_text": replace(
        _LLAMA,
        sites=_GEMMA_SITES,
        fields=(*_FIELDS, "query_pre_attn_scalar", "use_bidirectional_attention", "attn_logit_softcapping"),
        norm="rms_plus_one",
        eps="eps",
    ),
    "eurobert": replace(
        _LLAMA,
        pooling="cls",
        pooling_field=("classifier_pooling", {"bos": "cls", "mean": "mean", "late": "late"}),
        head=dense_head,
    ),
}
