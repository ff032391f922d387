"""What a server accepts and how long it waits, in one place."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Sizes in bytes, tokens and rows; times in seconds. A row is one text asked of one task."""

    memory_bytes: int = 4 << 30
    """Adapters kept in memory; the least recently used leave beyond it."""
    batch_tokens: int = 2048
    """Tokens of one batch."""
    max_wait_s: float = 0.002
    """How long a batch waits for company when the engine is idle."""
    queue_tokens: int = 65_536
    """Tokens accepted and not yet answered; a request beyond it is answered with 429."""
    queue_s: float = 5.0
    """How long what is accepted may be expected to take, at the speed of late; also 429 beyond it."""
    timeout_s: float = 30.0
    """From arrival to answer; 504 past it."""
    request_rows: int = 1024
    """Rows of one request."""
    body_bytes: int = 4 << 20
    body_s: float = 10.0
    """How long a client may take to send a request's head, and then its body."""
    poll_s: float = 1.0
    """How often the store is looked at for new versions."""
    drain_s: float = 30.0
    """How long accepted requests may take to finish after SIGTERM."""
    linger_s: float = 1.0
    """How long a draining server goes on to answer 503, so that a load balancer sees it leave."""
    adapter_labels: int = 200
    """Distinct adapters in the metrics; all others are counted together."""
