"""All sizes and timeouts of the server."""

from __future__ import annotations

from dataclasses import dataclass


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
