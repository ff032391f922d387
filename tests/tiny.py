"""Tiny random backbones of every architecture, saved as folders that ``load_backbone`` reads like any other."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import CONFIG_MAPPING, AutoModel, PreTrainedTokenizerFast

HIDDEN, LAYERS, HEADS, MIDDLE = 32, 2, 4, 48

WORDS = (
    "the a an and or not is was it this that i you we they good bad great awful film plot actor win cash now free "
    "prize call see you at five tomorrow team game score goal match bank market share price election vote law"
).split()
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY = {
    word: number for number, word in enumerate(dict.fromkeys([*SPECIAL, *WORDS, *"abcdefghijklmnopqrstuvwxyz"]))
}

COMMON = {"vocab_size": len(VOCABULARY), "max_position_embeddings": 66, "pad_token_id": 0}
BERT_LIKE = {
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": MIDDLE,
}
CONFIGS = {
    "bert": BERT_LIKE,
    "roberta": BERT_LIKE | {"type_vocab_size": 1, "pad_token_id": 1},
    "xlm-roberta": BERT_LIKE | {"type_vocab_size": 1, "pad_token_id": 1},
    "distilbert": {"dim": HIDDEN, "n_layers": LAYERS, "n_heads": HEADS, "hidden_dim": MIDDLE},
    "electra": BERT_LIKE | {"embedding_size": 16},
    "mpnet": BERT_LIKE,
}
MODERNBERT_LIKE = (
    BERT_LIKE
    | {"local_attention": 6, "global_attn_every_n_layers": 2, "attention_dropout": 0.1}
    | {"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
)
LLAMA_LIKE = BERT_LIKE | {"num_key_value_heads": 2, "head_dim": 8, "attention_dropout": 0.1}
NEW_CONFIGS: dict[str, dict[str, object]] = {
    "camembert": BERT_LIKE | {"type_vocab_size": 1, "pad_token_id": 1},
    "ernie": BERT_LIKE | {"use_task_id": True, "task_type_vocab_size": 3},
    "roformer": BERT_LIKE | {"embedding_size": 16},
    "modernbert": MODERNBERT_LIKE,
    "modernbert-decoder": MODERNBERT_LIKE,
    "deberta-v2": BERT_LIKE
    | {
        "relative_attention": True,
        "position_buckets": 8,
        "share_att_key": True,
        "pos_att_type": ["p2c", "c2p"],
        "norm_rel_ebd": "layer_norm",
        "position_biased_input": False,
        "pooler_hidden_size": HIDDEN,
    },
    "deberta": BERT_LIKE
    | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "pooler_hidden_size": HIDDEN, "type_vocab_size": 0},
    "llama": LLAMA_LIKE,
    "mistral": LLAMA_LIKE | {"sliding_window": 4},
    "qwen2": LLAMA_LIKE,
    "qwen3": LLAMA_LIKE,
    "smollm3": LLAMA_LIKE | {"no_rope_layer_interval": 2},
    "gemma3_text": LLAMA_LIKE | {"sliding_window": 4, "sliding_window_pattern": 2, "query_pre_attn_scalar": 8},
    "eurobert": LLAMA_LIKE,
    "albert": BERT_LIKE | {"embedding_size": 16, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1},
    "gte": BERT_LIKE,
    "nomic_bert": BERT_LIKE | {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1},
    "jina_embeddings_v3": BERT_LIKE,
}
ROOM = {"vocab_size": len(VOCABULARY) + 8}  # some of transformers' tokenizers bring tokens of their own
CONFIGS |= {name: ROOM | settings for name, settings in NEW_CONFIGS.items()}
WITHOUT_BIASES = (
    *("modernbert", "modernbert-decoder", "llama", "mistral", "qwen3", "smollm3", "gemma3_text"),
    *("eurobert", "nomic_bert"),
)
ARCHITECTURES = list(CONFIGS)


def tiny_config(architecture: str, **changes: object) -> dict[str, object]:
    """The content of a tiny ``config.json``."""
    return {"model_type": architecture, **COMMON, **CONFIGS[architecture], **changes}


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Whole words, or unknown; ``[CLS] a [SEP] b [SEP]``."""
    tokenizer = Tokenizer(models.WordPiece(VOCABULARY, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", VOCABULARY["[CLS]"]), ("[SEP]", VOCABULARY["[SEP]"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=64,
    )


def save_tiny(folder: Path, architecture: str = "bert", seed: int = 0, **changes: object) -> Path:
    """A folder with config, random weights (safetensors) and tokenizer."""
    torch.manual_seed(seed)
    settings = tiny_config(architecture, **changes)
    config = CONFIG_MAPPING[architecture](**{k: v for k, v in settings.items() if k != "model_type"})
    model = AutoModel.from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():  # norms at 1 and 0 would hide what is not copied
            if "norm" in name.lower():
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder
