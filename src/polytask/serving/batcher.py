"""Dynamic batching: groups queued requests, of any mix of tasks, into batches by a token budget.

One asyncio task takes items in order of arrival and runs the engine in a dedicated thread. While a batch is computed,
the queue fills up for the next one, so batches grow with the load. Guarantees:

* Every item gets an answer or an error, whatever the engine raises.
* A batch that fails is split in halves until the failing row is alone; all other rows are answered.
* Nothing is computed for a client that has disconnected or whose deadline has passed.
* The number of accepted tokens is bounded; beyond it, ``reserve`` raises ``Fault("overloaded")`` with a retry time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property

from polytask.inference.prediction import Prediction
from polytask.serving.engine import Row
from polytask.serving.faults import Fault
from polytask.serving.limits import Limits

log = logging.getLogger(__name__)

Answer = Prediction | Exception
Answers = list[Answer]
Compute = Callable[[Sequence[Row]], Answers]
DECAY = 0.2
"""Weight that the throughput estimate loses with each batch (exponential moving average)."""
INITIAL_TOKENS_PER_S = 2000.0
"""Throughput that is assumed until the first batch was measured."""
MAX_RETRY_AFTER_S = 60.0


@dataclass(eq=False)
class Item:
    """One text with a row for each of its tasks. The rows share a batch, so common layers are computed once."""

    rows: Sequence[Row]
    deadline: float
    future: asyncio.Future[Answers]
    arrived: float = field(default_factory=time.monotonic)
    started: float = 0.0
    inference_s: float = 0.0

    @cached_property
    def num_tokens(self) -> int:
        """Tokens of all rows."""
        return sum(row.num_tokens for row in self.rows)

    @property
    def queue_s(self) -> float:
        """Time spent in the queue."""
        return max(0.0, self.started - self.arrived)


@dataclass(frozen=True)
class BatchStats:
    """Size and duration of a computed batch."""

    num_rows: int
    num_tokens: int
    num_adapters: int
    seconds: float


class Batcher:
    """A queue in front of ``compute``, which runs in a thread, one batch at a time.

    Call all methods from the event loop's thread.
    """

    def __init__(self, compute: Compute, limits: Limits, on_batch: Callable[[BatchStats], None] | None = None) -> None:
        self.compute, self.limits = compute, limits
        self.on_batch = on_batch or (lambda stats: None)
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="polytask-engine")
        self.queue: deque[Item] = deque()
        self.reserved_tokens = 0
        self._throughput = INITIAL_TOKENS_PER_S, 1.0
        self._arrived = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the batching task in the running event loop."""
        self._loop = asyncio.create_task(self._run(), name="polytask-batcher")

    async def stop(self) -> None:
        """Stop the batching task; queued items fail with ``draining``."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)
        while self.queue:
            _fail(self.queue.popleft(), Fault("draining", "the server has stopped", retry_after_s=1))
        self.thread.shutdown(wait=True)

    @property
    def expected_wait_s(self) -> float:
        """Estimated time to compute all accepted tokens at the recent throughput."""
        num_tokens, seconds = self._throughput
        return self.reserved_tokens * seconds / num_tokens

    def reserve(self, num_tokens: int, timeout_s: float, *, held: int = 0) -> None:
        """Count tokens as accepted until ``release``. An idle server accepts any request within the limits.

        Args:
            timeout_s: the request's own deadline.
            held: tokens that the same request has reserved already.

        Raises:
            Fault: too many tokens are accepted already, or the request would miss its deadline.
        """
        is_full = self.reserved_tokens + num_tokens > self.limits.queue_tokens
        is_late = self.expected_wait_s > min(timeout_s, self.limits.queue_s)
        if self.reserved_tokens > held and (is_full or is_late):
            raise Fault(
                "overloaded",
                f"{self.reserved_tokens:,} tokens are already queued; try again later",
                retry_after_s=min(self.expected_wait_s, MAX_RETRY_AFTER_S),
            )
        self.reserved_tokens += num_tokens

    def release(self, num_tokens: int) -> None:
        """End a ``reserve``."""
        self.reserved_tokens -= num_tokens

    def put(self, rows: Sequence[Row], deadline: float) -> Item:
        """Queue a text; its ``future`` resolves to one answer or error for each row, or fails as a whole.

        Args:
            deadline: on the clock of ``time.monotonic``.
        """
        item = Item(rows, deadline, asyncio.get_running_loop().create_future())
        self.queue.append(item)
        self._arrived.set()
        return item

    async def _run(self) -> None:
        while True:
            items: list[Item] = []
            try:
                items = await self._next_batch()
                if items:
                    await self._compute(items)
            except asyncio.CancelledError:
                for item in items:
                    _fail(item, Fault("draining", "the server has stopped", retry_after_s=1))
                raise
            except Exception as error:  # no item may wait forever, whatever fails here
                log.exception("a batch failed outside the engine")
                for item in items:
                    _fail(item, error)

    async def _next_batch(self) -> list[Item]:
        """The next batch; empty if every waiting client has disconnected or timed out."""
        while not self.queue:
            self._arrived.clear()
            await self._arrived.wait()
        await self._wait_until_full()
        items: list[Item] = []
        num_tokens, now = 0, time.monotonic()
        while self.queue:
            item = self.queue[0]
            if items and num_tokens + item.num_tokens > self.limits.batch_tokens:
                break
            self.queue.popleft()
            if item.deadline <= now:
                _fail(item, Fault("deadline", "the deadline passed while the request was queued", retry_after_s=1))
            elif not item.future.done():  # done: the client has disconnected
                item.started = now
                items.append(item)
                num_tokens += item.num_tokens
        return items

    async def _wait_until_full(self) -> None:
        """Wait until the queue holds a full batch, at most ``max_wait_s`` after the first item arrived."""
        until = self.queue[0].arrived + self.limits.max_wait_s
        while (left := until - time.monotonic()) > 0 and self._queued_tokens() < self.limits.batch_tokens:
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), left)
            except asyncio.TimeoutError:
                return

    def _queued_tokens(self) -> int:
        return sum(item.num_tokens for item in self.queue)

    async def _compute(self, items: Sequence[Item]) -> None:
        rows = [row for item in items for row in item.rows]
        start = time.monotonic()
        loop = asyncio.get_running_loop()
        answers = await asyncio.shield(loop.run_in_executor(self.thread, compute_bisecting, self.compute, rows))
        seconds = time.monotonic() - start
        remaining = iter(answers)
        for item in items:
            item.inference_s = seconds
            own = [next(remaining) for _ in item.rows]
            if not item.future.done():
                item.future.set_result(own)
        self._measure(rows, seconds)

    def _measure(self, rows: Sequence[Row], seconds: float) -> None:
        num_tokens = sum(row.num_tokens for row in rows)
        tokens_before, seconds_before = self._throughput
        kept = 1 - DECAY
        self._throughput = kept * tokens_before + num_tokens, kept * seconds_before + seconds
        self.on_batch(BatchStats(len(rows), num_tokens, len({row.name for row in rows}), seconds))


def compute_bisecting(compute: Compute, rows: Sequence[Row]) -> Answers:
    """One answer or error for each row. If the batch fails, each half is computed on its own, recursively."""
    try:
        answers = compute(rows)
        if len(answers) != len(rows):
            raise RuntimeError(f"{len(rows)} rows, {len(answers)} answers")
        return list(answers)
    except Exception as error:
        if len(rows) == 1:
            log.exception("a row of %s failed", rows[0].name)
            return [error]
    half = len(rows) // 2
    return compute_bisecting(compute, rows[:half]) + compute_bisecting(compute, rows[half:])


def _fail(item: Item, error: Exception) -> None:
    if not item.future.done():
        item.future.set_exception(error)
