"""Checks that the weights, configuration and tokenizer of a checkpoint fit together."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

from torch import nn
from transformers import PreTrainedConfig

from polytask.architectures import Architecture
from polytask.errors import BackboneError, PolytaskWarning

HEADS = (
    *("cls.", "classifier", "lm_head", "pooler.", "qa_outputs", "score.", "predictions", "vocab_", "summary"),
    *("position_ids", "logit_scale", "classification_head"),
)
"""Parts of the names of tensors that an encoder does not need: those of heads, and buffers that it computes itself."""
ASSUMED = {"position_embedding_type": "absolute", "is_decoder": False}
"""Settings of a ``config.json`` for which one value only is supported."""


def warn_of_unused(source: str, keys: Iterable[str]) -> None:
    """Warn about tensors of a checkpoint that its architecture does not use, except those of heads."""
    unused = sorted(key for key in keys if not any(part in key for part in HEADS))
    if unused:
        more = f" and {len(unused) - 3} more" if len(unused) > 3 else ""
        warnings.warn(
            f"the checkpoint of {source} has tensors that are not used: {', '.join(unused[:3])}{more}. "
            "If they belong to the encoder, its answers are not those of the model that was trained",
            PolytaskWarning,
            stacklevel=4,
        )


def replace_unsupported(source: str, config: PreTrainedConfig) -> None:
    """Give settings that are not supported the value that is computed, and warn about each of them.

    Otherwise fast layers and transformers' own would compute different models.
    """
    other = {name: getattr(config, name, None) or usual for name, usual in ASSUMED.items()}
    odd = [f"{name} {value!r}" for name, value in other.items() if value != ASSUMED[name]]
    if odd:
        warnings.warn(
            f"{source} was trained with {' and '.join(odd)}, which is not supported: its answers are not those of "
            "the model that was trained",
            PolytaskWarning,
            stacklevel=3,
        )
    for name, usual in ASSUMED.items():
        if hasattr(config, name):
            setattr(config, name, usual)


def check_fits(source: str, tokenizer: Any, model: nn.Module, row: Architecture) -> None:
    """Check that every token has an embedding, and that there are positions for a text.

    Raises:
        BackboneError: with both numbers, or with the missing setting.
    """
    config: Any = model.config
    if row.first_position is None and config.pad_token_id is None:
        raise BackboneError(
            f"config.json of {source} has no pad_token_id, behind which this architecture's positions are counted. "
            "Set it to the id of the padding token"
        )
    positions, first = config.max_position_embeddings, row.first_position_of(config)
    if positions - first < 3:
        raise BackboneError(
            f"{source} has {positions} positions, and a text's first token is at {first}: there is no room for a text. "
            "Look at max_position_embeddings and pad_token_id in its config.json"
        )
    embeddings: Any = model.get_input_embeddings()  # type: ignore[operator]
    highest = max(tokenizer.get_vocab().values(), default=-1)
    if highest >= embeddings.num_embeddings:
        raise BackboneError(
            f"the tokenizer of {source} has token ids up to {highest:,} and the model has embeddings for "
            f"{embeddings.num_embeddings:,} tokens: they do not belong together"
        )
