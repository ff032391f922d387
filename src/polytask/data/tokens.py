"""Calls a tokenizer safely from several threads, and quickly on texts far longer than the maximum length.

A fast tokenizer stores truncation and padding and changes them on each call. Two calls at the same time either fail
("Already borrowed") or truncate to each other's length.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

_LOCKS: WeakKeyDictionary[Any, threading.Lock] = WeakKeyDictionary()
_LOCKS_LOCK = threading.Lock()


def tokenize(tokenizer: Any, *texts: Any, **options: Any) -> Any:
    """Return ``tokenizer(*texts, **options)``; only one thread at a time calls a tokenizer."""
    with _LOCKS_LOCK:
        lock = _LOCKS.setdefault(tokenizer, threading.Lock())
    with lock:
        return tokenizer(*texts, **options)


MAX_CHARS_PER_TOKEN = 64
"""A text with more characters per token of the maximum length is shortened before it is tokenized."""
MAX_CHARS_PER_TOKEN_OF_PAIRS = 16
"""The same for pairs, which are slower: a tokenizer that truncates both builds all pairs of their overflow."""
FIRST_CHARS_PER_TOKEN = 16
"""Characters per token of the first prefix that is tried."""
EXTRA_TOKENS = 8
"""A prefix must have this many more tokens than are read, so that where it ends has no effect."""
_WORD_PRE_TOKENIZERS = {
    "BertPreTokenizer",
    "ByteLevel",
    "Whitespace",
    "WhitespaceSplit",
    "Punctuation",
    "Digits",
    "Split",
    "Metaspace",
}
_TOKENIZES_WORDS_INDEPENDENTLY: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def shorten_text(tokenizer: Any, text: str, num_tokens: int, max_chars: int | None = None) -> str:
    """Return a prefix of ``text`` with the same first ``num_tokens`` tokens.

    A text is returned whole if it has at most ``max_chars`` characters per token (default: ``MAX_CHARS_PER_TOKEN``),
    or if the tokenizer's tokens may depend on what follows a space.
    """
    max_chars = MAX_CHARS_PER_TOKEN if max_chars is None else max_chars
    if len(text) <= max_chars * num_tokens or not _tokenizes_words_independently(tokenizer):
        return text
    for prefix in _prefixes(text, FIRST_CHARS_PER_TOKEN * num_tokens):
        if count_tokens(tokenizer, prefix) >= num_tokens + EXTRA_TOKENS:
            return prefix
    return text


def shorten_pair(tokenizer: Any, text: str, pair: str, num_tokens: int) -> tuple[str, str]:
    """Shorten a pair so that truncating it to ``num_tokens``, longest text first, gives the same tokens.

    If both texts are shortened, the one with more characters stays the longer one.
    """
    one, other = (shorten_text(tokenizer, own, num_tokens, MAX_CHARS_PER_TOKEN_OF_PAIRS) for own in (text, pair))
    if one is text and other is pair:
        return text, pair
    if other is pair or (one is not text and len(text) > len(pair)):
        return shorten_text(tokenizer, text, max(num_tokens, count_tokens(tokenizer, other)), 0), other
    return one, shorten_text(tokenizer, pair, max(num_tokens, count_tokens(tokenizer, one)), 0)


def count_tokens(tokenizer: Any, text: str) -> int:
    """Return the number of tokens of a text, without special tokens."""
    return len(
        tokenize(tokenizer, text, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
    )


def _prefixes(text: str, size: int) -> Iterator[str]:
    """Yield prefixes that end with a whole word, each twice as long as the one before."""
    while size < len(text):
        end = text.rfind(" ", 0, size)
        if end > size // 2 and (prefix := text[:end].rstrip()):
            yield prefix
        size *= 2


def _tokenizes_words_independently(tokenizer: Any) -> bool:
    """Whether the tokens before a space never depend on the text after it, and truncation removes the end."""
    if tokenizer.truncation_side != "right":
        return False
    if tokenizer not in _TOKENIZES_WORDS_INDEPENDENTLY:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        parts = None if backend is None else json.loads(backend.to_str())["pre_tokenizer"]
        _TOKENIZES_WORDS_INDEPENDENTLY[tokenizer] = _splits_at_spaces(parts or {})
    return _TOKENIZES_WORDS_INDEPENDENTLY[tokenizer]


def _splits_at_spaces(parts: dict[str, Any]) -> bool:
    if parts.get("type") == "Sequence":
        own = parts["pretokenizers"]
        return bool(own) and all(map(_splits_words, own)) and any(map(_splits_at_spaces, own))
    return _splits_words(parts) and parts["type"] not in ("Punctuation", "Digits", "Split")


def _splits_words(parts: dict[str, Any]) -> bool:
    return parts.get("type") in _WORD_PRE_TOKENIZERS and parts.get("split", True) and parts.get("use_regex", True)
