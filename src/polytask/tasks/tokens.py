"""Calling a tokenizer from several threads.

A fast tokenizer keeps truncation and padding as its state and changes them on each call. Two calls at once either fail
("Already borrowed") or cut texts to the other's length.
"""

from __future__ import annotations

import threading
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
