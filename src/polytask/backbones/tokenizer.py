"""Loads the tokenizer of a checkpoint: its ``tokenizer.json``, or the vocabulary of a slow tokenizer.

Transformers makes a fast tokenizer from a ``vocab.txt``, and from a sentencepiece file if sentencepiece is installed.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerFast

from polytask.backbones.checkpoint import find_file, loading_error, quiet_transformers
from polytask.errors import BackboneError

SENTENCEPIECE_FILES = ("spiece.model", "spm.model", "sentencepiece.bpe.model", "tokenizer.model")
SAVE_TOKENIZER = "Save the model's tokenizer beside it: tokenizer.save_pretrained(folder)"


def load_tokenizer(source: str, **settings: Any) -> Any:
    """The fast tokenizer of a folder or hub id.

    Args:
        source: the folder or hub id.
        settings: further arguments of ``AutoTokenizer.from_pretrained``.

    Raises:
        BackboneError: there is none, it cannot be read, or it has no fast version; the message says what to do.
    """
    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False, **settings)
    except Exception as error:
        raise _sentencepiece_error(source) or loading_error(source, error, "tokenizer") from error
    if not tokenizer.is_fast:
        raise BackboneError(
            f"transformers has no fast version of the tokenizer of {source}, a {type(tokenizer).__name__}"
        )
    if not settings:
        _check_vocabulary(source, tokenizer)
    return tokenizer


def _check_vocabulary(source: str, tokenizer: Any) -> None:
    """Refuse what transformers creates if a file is missing or empty: an empty tokenizer, or one of no class."""
    files = {"tokenizer.json", *tokenizer.vocab_files_names.values()}
    if Path(source).is_dir() and not any((Path(source) / file).is_file() for file in files):
        raise BackboneError(f"{source} has no tokenizer: none of {', '.join(sorted(files))} is there. {SAVE_TOKENIZER}")
    if type(tokenizer) is PreTrainedTokenizerFast and find_file(source, "tokenizer.json") is None:
        raise BackboneError(
            f"{source} does not say of which class its tokenizer is: write a tokenizer_config.json with the key "
            'tokenizer_class, such as "LlamaTokenizer"'
        )
    special = {str(token) for token in (*tokenizer.added_tokens_decoder.values(), *tokenizer.all_special_tokens)}
    if len(set(tokenizer.get_vocab()) - special) <= 1:
        raise BackboneError(
            f"the tokenizer of {source} knows no words, only {len(tokenizer)} special tokens: of "
            f"{', '.join(sorted(files))} none is there, or what is there is empty. {SAVE_TOKENIZER}"
        )


def _sentencepiece_error(source: str) -> BackboneError | None:
    """Why a sentencepiece file was not read; None if the tokenizer is in no such file."""
    name = next((name for name in SENTENCEPIECE_FILES if find_file(source, name) is not None), None)
    if name is None or find_file(source, "tokenizer.json") is not None:
        return None
    if all(importlib.util.find_spec(package) for package in ("sentencepiece", "google.protobuf")):
        return BackboneError(f"{name} of {source} cannot be read as a sentencepiece file. Is it whole?")
    return BackboneError(
        f"the tokenizer of {source} is in a sentencepiece file, {name}, which needs a package that is not installed: "
        "pip install 'polytask[sentencepiece]'"
    )
