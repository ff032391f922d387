"""Limits how often a pack reports its steps."""

from __future__ import annotations

import time

INTERVAL_S = 0.2
"""Seconds between two messages of a job, at least."""


class Throttle:
    """Lets a message of a job through if its last one was sent at least ``interval_s`` seconds ago."""

    def __init__(self, interval_s: float | None = None) -> None:
        self.interval_s = INTERVAL_S if interval_s is None else interval_s
        self._sent_at: dict[str, float] = {}

    def is_due(self, job: str) -> bool:
        """Whether a message of this job may be sent now; if so, it counts as sent."""
        now = time.monotonic()
        if now - self._sent_at.get(job, -self.interval_s) < self.interval_s:
            return False
        self._sent_at[job] = now
        return True
