"""Prometheus metrics, in SI units, and the recent throughput that the page shows."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

from polytask import __version__
from polytask.serving.batcher import BatchStats

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SIZES = tuple(2.0**n for n in range(13))
WINDOW_S = 10.0


class Metrics:
    """All metrics of one server, in a registry of its own.

    Args:
        adapter_labels: maximum number of adapters with a label of their own; the rest share ``other``.
    """

    def __init__(self, adapter_labels: int) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.adapter_labels = adapter_labels
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "polytask_requests", "Requests answered.", ["route", "adapter", "code"], registry=registry
        )
        self.rows = Counter("polytask_rows", "Rows answered, by task.", ["adapter"], registry=registry)
        self.rejected = Counter("polytask_rejected", "Requests that failed, by reason.", ["reason"], registry=registry)
        self.loads = Counter(
            "polytask_adapter_loads", "Adapters that were loaded or refused.", ["result"], registry=registry
        )
        self.seconds = {
            name: Histogram(f"polytask_{name}_duration_seconds", help_, registry=registry, buckets=SECONDS)
            for name, help_ in (
                ("request", "From arrival to response."),
                ("queue", "Time in the queue."),
                ("tokenization", "Tokenization of a request."),
                ("inference", "Forward passes of a batch."),
            )
        }
        self.batch = {
            name: Histogram(f"polytask_batch_{name}", f"{name.capitalize()} of a batch.", registry=registry, buckets=at)
            for name, at in (("tokens", SIZES), ("rows", SIZES[:11]), ("adapters", SIZES[:9]))
        }
        self.queue_depth = Gauge("polytask_queue_depth", "Texts in the queue.", registry=registry)
        self.queue_tokens = Gauge("polytask_queue_tokens", "Tokens accepted and not yet answered.", registry=registry)
        self.resident = Gauge("polytask_adapters_resident", "Adapters in memory.", registry=registry)
        self.resident_bytes = Gauge("polytask_adapters_resident_bytes", "Memory of the adapters.", registry=registry)
        build = Gauge("polytask_build_info", "Always 1.", ["version"], registry=registry)
        build.labels(__version__).set(1)
        self._labels: set[str] = set()
        self._recent: deque[tuple[float, BatchStats]] = deque()

    def adapter_label(self, tasks: Sequence[str]) -> str:
        """The value of the label ``adapter`` for a request to these tasks; the number of distinct values is bounded."""
        if len(set(tasks)) != 1:
            return "several" if tasks else ""
        (task,) = set(tasks)
        if len(self._labels) < self.adapter_labels:
            self._labels.add(task)
        return task if task in self._labels else "other"

    def observe_batch(self, stats: BatchStats) -> None:
        """Record a batch."""
        self.batch["rows"].observe(stats.num_rows)
        self.batch["tokens"].observe(stats.num_tokens)
        self.batch["adapters"].observe(stats.num_adapters)
        self.seconds["inference"].observe(stats.seconds)
        now = time.monotonic()
        self._recent.append((now, stats))
        while self._recent[0][0] < now - WINDOW_S:
            self._recent.popleft()

    def recent(self) -> dict[str, float]:
        """Rows, tokens and batches per second over the last ten seconds."""
        since = time.monotonic() - WINDOW_S
        batches = [stats for at, stats in self._recent if at >= since]
        rows, tokens = sum(b.num_rows for b in batches), sum(b.num_tokens for b in batches)
        return {
            "rows_per_s": rows / WINDOW_S,
            "tokens_per_s": tokens / WINDOW_S,
            "batches_per_s": len(batches) / WINDOW_S,
        }

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)
