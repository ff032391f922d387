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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

from polytask.inference.prediction import Prediction
from polytask.serving.engine import Row
from polytask.serving.faults import Fault
from polytask.serving.limits import Limits

log = logging.getLogger(__name__)

Answer = Prediction | Exception
Answers = list[Answer]
Compute = Callable[[Sequence[Row]], Answers]
DECAY = 0.2
"""Weight that the throughput estimate loses with each full batch (exponential moving average)."""
INITIAL_TOKENS_PER_S = 2000.0
"""Throughput that is assumed until the first batch was measured."""
MAX_RETRY_AFTER_S = 60.0


class Submission:
    """The texts of a request, which are queued together; ``future`` resolves when all of them are answered.

    Args:
        texts: for each text, a row for each of its tasks.
        deadline: on the clock of ``time.monotonic``.
    """

    def __init__(self, texts: Sequence[Sequence[Row]], deadline: float) -> None:
        self.items = [Item(rows, self) for rows in texts]
        self.deadline = deadline
        self.future: asyncio.Future[list[Answers]] = asyncio.get_running_loop().create_future()
        self.num_tokens = sum(item.num_tokens for item in self.items)
        self.num_left = len(self.items)
        self.arrived = time.monotonic()
        self.queue_s = self.inference_s = 0.0

    def fail(self, error: Exception) -> None:
        """End with an error; texts that are still queued will not be computed."""
        if not self.future.done():
            self.future.set_exception(error)
            self.future.exception()  # marks it as retrieved: the client may have disconnected meanwhile

    def finish_one(self) -> None:
        """Count a text that was answered; the last one resolves the future."""
        self.num_left -= 1
        if not self.num_left and not self.future.done():
            self.future.set_result([item.answers for item in self.items])


class Item:
    """One text with a row for each of its tasks. The rows share a batch, so common layers are computed once."""

    __slots__ = ("answers", "num_tokens", "rows", "submission")

    def __init__(self, rows: Sequence[Row], submission: Submission) -> None:
        self.rows, self.submission = rows, submission
        self.num_tokens = sum(row.num_tokens for row in rows)
        self.answers: Answers = []


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
        self.queued_tokens = self.reserved_tokens = 0
        self.num_expected = 0
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
            self._pop().submission.fail(_stopped())
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

    @contextmanager
    def expecting(self) -> Iterator[None]:
        """Within the block, an idle engine waits a moment for the texts that the caller is about to ``put``."""
        self.num_expected += 1
        try:
            yield
        finally:
            self.num_expected -= 1
            self._arrived.set()

    def put(self, texts: Sequence[Sequence[Row]], deadline: float) -> Submission:
        """Queue texts; the ``future`` resolves to one answer or error for each row of each text, or fails as a whole.

        Args:
            texts: at least one; for each, a row for each of its tasks.
            deadline: on the clock of ``time.monotonic``.
        """
        submission = Submission(texts, deadline)
        self.queue.extend(submission.items)
        self.queued_tokens += submission.num_tokens
        self._arrived.set()
        return submission

    def _pop(self) -> Item:
        item = self.queue.popleft()
        self.queued_tokens -= item.num_tokens
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
                    item.submission.fail(_stopped())
                raise
            except Exception as error:  # no item may wait forever, whatever fails here
                log.exception("a batch failed outside the engine")
                for item in items:
                    item.submission.fail(error)

    async def _next_batch(self) -> list[Item]:
        """The next batch; empty if every waiting client has disconnected or timed out."""
        while not self.queue:
            self._arrived.clear()
            await self._arrived.wait()
        await self._wait_until_full()
        items: list[Item] = []
        num_tokens, now = 0, time.monotonic()
        while self.queue:
            if items and num_tokens + self.queue[0].num_tokens > self.limits.batch_tokens:
                break
            item = self._pop()
            submission = item.submission
            if submission.deadline <= now:
                submission.fail(Fault("deadline", "the deadline passed while the request was queued", retry_after_s=1))
            elif not submission.future.done():  # done: it has failed, or the client has disconnected
                submission.queue_s = now - submission.arrived
                items.append(item)
                num_tokens += item.num_tokens
        return items

    async def _wait_until_full(self) -> None:
        """Wait for expected texts until there is a full batch, at most ``max_wait_s`` after the first one arrived."""
        until = self.queue[0].submission.arrived + self.limits.max_wait_s
        while self.num_expected and self.queued_tokens < self.limits.batch_tokens:
            left = until - time.monotonic()
            if left <= 0:
                return
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), left)
            except asyncio.TimeoutError:
                return

    async def _compute(self, items: Sequence[Item]) -> None:
        rows = [row for item in items for row in item.rows]
        start = time.monotonic()
        loop = asyncio.get_running_loop()
        answers = await asyncio.shield(loop.run_in_executor(self.thread, compute_bisecting, self.compute, rows))
        seconds = time.monotonic() - start
        remaining = iter(answers)
        for item in items:
            item.answers = list(islice(remaining, len(item.rows)))
            item.submission.inference_s = max(item.submission.inference_s, seconds)
            item.submission.finish_one()
        self._measure(rows, sum(item.num_tokens for item in items), seconds)

    def _measure(self, rows: Sequence[Row], num_tokens: int, seconds: float) -> None:
        """Update the estimated throughput. A batch counts by its share of a full one.

        What is queued is computed in full batches, and small ones have a much lower throughput.
        """
        share = min(1.0, num_tokens / self.limits.batch_tokens)
        tokens_before, seconds_before = self._throughput
        kept = 1 - DECAY * share
        self._throughput = kept * tokens_before + share * num_tokens, kept * seconds_before + share * seconds
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


def _stopped() -> Fault:
    return Fault("draining", "the server has stopped", retry_after_s=1)
