"""Calling a tokenizer: from several threads, and on texts far longer than what is read of them.

A fast tokenizer keeps truncation and padding as its state and changes them on each call. Two calls at once either fail
("Already borrowed") or cut texts to the other's length.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

_LOCKS: WeakKeyDictionary[Any, threading.Lock] = WeakKeyDictionary()
_NEW = threading.Lock()


def tokenize(tokenizer: Any, *texts: Any, **options: Any) -> Any:
    """``tokenizer(*texts, **options)``, one thread at a time for each tokenizer."""
    with _NEW:
        lock = _LOCKS.setdefault(tokenizer, threading.Lock())
    with lock:
        return tokenizer(*texts, **options)


FAR = 64
"""Characters a token that is read: a text of more is cut before it becomes tokens, not after."""
FAR_OF_PAIRS = 16
"""The same for pairs: a tokenizer that cuts both texts makes all the pairs of what it cuts off."""
NEAR = 16
"""Characters a token that is read, with which cutting begins."""
MORE = 8
"""Tokens that a beginning must have beyond those that are read, so that its end does not count."""
_BY_WORDS = {
    "BertPreTokenizer",
    "ByteLevel",
    "Whitespace",
    "WhitespaceSplit",
    "Punctuation",
    "Digits",
    "Split",
    "Metaspace",
}
_WORDS_ALONE: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def beginning(tokenizer: Any, text: str, num_tokens: int, far: int | None = None) -> str:
    """A beginning of ``text`` whose first ``num_tokens`` tokens are those of the whole, and which has some more.

    Texts of at most ``far`` (``FAR``) characters a token stay as they are, and all where a tokenizer may look beyond a
    space.
    """
    if len(text) <= (FAR if far is None else far) * num_tokens or not _has_words_alone(tokenizer):
        return text
    for begun in _beginnings(text, NEAR * num_tokens):
        if count(tokenizer, begun) >= num_tokens + MORE:
            return begun
    return text


def beginnings(tokenizer: Any, text: str, pair: str, num_tokens: int) -> tuple[str, str]:
    """Beginnings of two texts that are cut to ``num_tokens`` as the whole ones are, the longer one first.

    Where both are cut here, the longer one is that of more characters.
    """
    one, other = (beginning(tokenizer, own, num_tokens, FAR_OF_PAIRS) for own in (text, pair))
    if one is text and other is pair:
        return text, pair
    if other is pair or (one is not text and len(text) > len(pair)):
        return beginning(tokenizer, text, max(num_tokens, count(tokenizer, other)), 0), other
    return one, beginning(tokenizer, pair, max(num_tokens, count(tokenizer, one)), 0)


def count(tokenizer: Any, text: str) -> int:
    """Tokens of a text, those aside that a tokenizer adds."""
    return len(
        tokenize(tokenizer, text, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
    )


def _beginnings(text: str, size: int) -> Iterator[str]:
    """Beginnings that end with a whole word, each twice as long as the one before."""
    while size < len(text):
        end = text.rfind(" ", 0, size)
        if end > size // 2 and (begun := text[:end].rstrip()):
            yield begun
        size *= 2


def _has_words_alone(tokenizer: Any) -> bool:
    """Whether what stands behind a space changes no token before it, and texts lose their end when they are cut."""
    if tokenizer.truncation_side != "right":
        return False
    if tokenizer not in _WORDS_ALONE:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        parts = None if backend is None else json.loads(backend.to_str())["pre_tokenizer"]
        _WORDS_ALONE[tokenizer] = _splits_at_spaces(parts or {})
    return _WORDS_ALONE[tokenizer]


def _splits_at_spaces(parts: dict[str, Any]) -> bool:
    if parts.get("type") == "Sequence":
        own = parts["pretokenizers"]
        return bool(own) and all(map(_is_known, own)) and any(map(_splits_at_spaces, own))
    return _is_known(parts) and parts["type"] not in ("Punctuation", "Digits", "Split")


def _is_known(parts: dict[str, Any]) -> bool:
    return parts.get("type") in _BY_WORDS and parts.get("split", True) and parts.get("use_regex", True)
