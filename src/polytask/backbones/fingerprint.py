"""Fingerprints: hashes that identify a backbone and its tokenizer."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch
from torch import nn

from polytask.architectures import Architecture


def fingerprint_of(model: nn.Module, row: Architecture) -> str:
    """SHA-256 over the architecture's configuration fields and every tensor, in the types of the checkpoint."""
    config: Any = model.config
    sha = hashlib.sha256(
        json.dumps({field: _with_sorted_keys(getattr(config, field, None)) for field in row.fields}).encode()
    )
    for name, tensor in sorted(model.state_dict().items()):
        sha.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        sha.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
    return sha.hexdigest()


def _with_sorted_keys(value: Any) -> Any:
    """A configuration value with the keys of all its objects sorted."""
    return {key: _with_sorted_keys(value[key]) for key in sorted(value)} if isinstance(value, dict) else value


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """SHA-256 over vocabulary, normaliser, pre-tokenizer and post-processor.

    Padding and the truncation length are left out, because they change as the tokenizer is used.
    """
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    lasting = {part: state[part] for part in ("normalizer", "pre_tokenizer", "post_processor", "model", "added_tokens")}
    usual = {"truncation_side": "right", "split_special_tokens": False}
    for name, value in usual.items():  # added later: left out at the value that all earlier tokenizers had
        if getattr(tokenizer, name, value) != value:
            lasting[name] = getattr(tokenizer, name)
    return hashlib.sha256(json.dumps(lasting, sort_keys=True).encode()).hexdigest()
