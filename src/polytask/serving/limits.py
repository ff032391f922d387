"""All sizes and timeouts of the server."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from dataclasses import dataclass

KERNEL_CACHES, KERNEL_CACHE_CAPACITY = ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"), 256
"""torch and oneDNN each keep the kernels of so many sizes of products; both numbers are 1,024 by default."""


def limit_kernel_caches(environment: MutableMapping[str, str] = os.environ) -> None:
    """Keep fewer kernels than torch does by default, unless the user has chosen; call it before torch is imported.

    Each batch has its own number of tokens, and the kernels for one take 2 MB.
    """
    for name in KERNEL_CACHES:
        environment.setdefault(name, str(KERNEL_CACHE_CAPACITY))


@dataclass(frozen=True)
class Limits:
    """Sizes in bytes, tokens and rows; times in seconds. A row is one text for one task."""

    memory_bytes: int = 4 << 30
    """Memory for adapters; beyond it the least recently used are evicted."""
    batch_tokens: int = 2048
    """Maximum tokens of a batch."""
    max_wait_s: float = 0.002
    """How long an idle engine waits for other requests that are being tokenized before it computes a batch."""
    queue_tokens: int = 65_536
    """Maximum tokens that are accepted and not yet answered; further requests get 429."""
    queue_s: float = 5.0
    """Maximum expected time for all accepted tokens, at the recent throughput; further requests get 429."""
    timeout_s: float = 30.0
    """Deadline of a request, from arrival to answer; 504 after it."""
    request_rows: int = 1024
    """Maximum rows of a request."""
    body_bytes: int = 4 << 20
    """Maximum size of a request's body."""
    bodies_bytes: int = 128 << 20
    """Maximum size of the bodies of all requests in progress; further requests get 429."""
    body_s: float = 10.0
    """Time for a client to send a request's head, and then its body."""
    send_s: float = 30.0
    """Time for a client to read what was sent to it; then the connection is closed."""
    poll_s: float = 1.0
    """Interval between scans of the store for new versions."""
    drain_s: float = 30.0
    """Time for accepted requests to finish after SIGTERM."""
    linger_s: float = 1.0
    """How long a draining server keeps answering 503, so that a load balancer notices."""
    adapter_labels: int = 200
    """Maximum number of adapters with a metrics label of their own; the rest share one."""
