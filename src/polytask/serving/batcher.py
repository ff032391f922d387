"""Requests become batches: of mixed tasks, by a budget of tokens, each waiting a little for company.

One loop takes items in the order of arrival and gives them to the engine in a thread of its own. While the engine
works, the queue grows into the next batch, so batches are as large as the load makes them. Promises:

* Whatever the engine raises, every item gets an answer or an error.
* A batch that fails is split in halves until the row that fails is alone; its neighbours are answered.
* Nothing is computed for a client that has gone or whose deadline has passed.
* What is accepted is bounded, in tokens: beyond that, ``Fault("overloaded")`` says when to come back.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from polytask.inference.prediction import Prediction
from polytask.serving.engine import Row
from polytask.serving.faults import Fault
from polytask.serving.limits import Limits

log = logging.getLogger(__name__)

Answer = Prediction | Exception
Answers = list[Answer]
Compute = Callable[[Sequence[Row]], Answers]
FORGOTTEN = 0.2
"""The share of what was measured that each batch makes forgotten."""
FIRST_GUESS = 2000.0
"""Tokens a second, before anything was measured."""


@dataclass(eq=False)
class Item:
    """One text for all tasks that it is asked of: they stay in one batch, where what they share is computed once."""

    rows: Sequence[Row]
    deadline: float
    future: asyncio.Future[Answers]
    arrived: float = field(default_factory=time.monotonic)
    begun: float = 0.0
    inference_s: float = 0.0

    @property
    def num_tokens(self) -> int:
        """Of all rows."""
        return sum(row.num_tokens for row in self.rows)

    @property
    def queue_s(self) -> float:
        """How long it waited."""
        return max(0.0, self.begun - self.arrived)


@dataclass(frozen=True)
class Batched:
    """What is told of a batch that was computed."""

    num_rows: int
    num_tokens: int
    num_adapters: int
    seconds: float


class Batcher:
    """A queue in front of ``compute``, which runs in a thread, one batch at a time.

    All methods belong to the event loop's thread.
    """

    def __init__(self, compute: Compute, limits: Limits, on_batch: Callable[[Batched], None] | None = None) -> None:
        self.compute, self.limits = compute, limits
        self.on_batch = on_batch or (lambda batched: None)
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="polytask-engine")
        self.queue: deque[Item] = deque()
        self.reserved_tokens = 0
        self._measured = FIRST_GUESS, 1.0
        self._arrived = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to take batches, in the running event loop."""
        self._loop = asyncio.create_task(self._run(), name="polytask-batcher")

    async def stop(self) -> None:
        """End; what is still queued is answered with ``draining``."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)
        while self.queue:
            _fail(self.queue.popleft(), Fault("draining", "the server has stopped", retry_after_s=1))
        self.thread.shutdown(wait=True)

    @property
    def expected_wait_s(self) -> float:
        """How long what is accepted will take, at the speed of late."""
        num_tokens, seconds = self._measured
        return self.reserved_tokens * seconds / num_tokens

    def reserve(self, num_tokens: int, timeout_s: float) -> None:
        """Count tokens as accepted, until ``give_back``. An idle server takes any request that the limits allow.

        Raises:
            Fault: too much is accepted already, or it would not be answered in time.
        """
        is_full = self.reserved_tokens + num_tokens > self.limits.queue_tokens
        is_late = self.expected_wait_s > min(timeout_s, self.limits.queue_s)
        if self.reserved_tokens and (is_full or is_late):
            raise Fault(
                "overloaded",
                f"{self.reserved_tokens:,} tokens are waiting already; try again later",
                retry_after_s=min(self.expected_wait_s, 60.0),
            )
        self.reserved_tokens += num_tokens

    def give_back(self, num_tokens: int) -> None:
        """End a ``reserve``."""
        self.reserved_tokens -= num_tokens

    def put(self, rows: Sequence[Row], deadline: float) -> Item:
        """Queue a text; its ``future`` has one answer or error a row, or is an error itself.

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
                items = await self._next()
                if items:
                    await self._answer(items)
            except asyncio.CancelledError:
                for item in items:
                    _fail(item, Fault("draining", "the server has stopped", retry_after_s=1))
                raise
            except Exception as error:  # whatever happens here, nobody waits for ever
                log.exception("a batch failed outside the engine")
                for item in items:
                    _fail(item, error)

    async def _next(self) -> list[Item]:
        """The next batch; it may be empty, where all who waited have gone."""
        while not self.queue:
            self._arrived.clear()
            await self._arrived.wait()
        await self._company()
        items: list[Item] = []
        num_tokens, now = 0, time.monotonic()
        while self.queue:
            item = self.queue[0]
            if items and num_tokens + item.num_tokens > self.limits.batch_tokens:
                break
            self.queue.popleft()
            if item.deadline <= now:
                _fail(item, Fault("deadline", "the deadline passed while the request was queued", retry_after_s=1))
            elif not item.future.done():  # else its client has gone
                item.begun = now
                items.append(item)
                num_tokens += item.num_tokens
        return items

    async def _company(self) -> None:
        """Wait until a batch is full, or for as long as the first item may wait."""
        until = self.queue[0].arrived + self.limits.max_wait_s
        while (left := until - time.monotonic()) > 0 and self._queued_tokens() < self.limits.batch_tokens:
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), left)
            except asyncio.TimeoutError:
                return

    def _queued_tokens(self) -> int:
        return sum(item.num_tokens for item in self.queue)

    async def _answer(self, items: Sequence[Item]) -> None:
        rows = [row for item in items for row in item.rows]
        start = time.monotonic()
        loop = asyncio.get_running_loop()
        answers = await asyncio.shield(loop.run_in_executor(self.thread, each_answered, self.compute, rows))
        seconds = time.monotonic() - start
        given = iter(answers)
        for item in items:
            item.inference_s = seconds
            own = [next(given) for _ in item.rows]
            if not item.future.done():
                item.future.set_result(own)
        self._measure(rows, seconds)

    def _measure(self, rows: Sequence[Row], seconds: float) -> None:
        num_tokens = sum(row.num_tokens for row in rows)
        tokens_before, seconds_before = self._measured
        kept = 1 - FORGOTTEN
        self._measured = kept * tokens_before + num_tokens, kept * seconds_before + seconds
        self.on_batch(Batched(len(rows), num_tokens, len({row.name for row in rows}), seconds))


def each_answered(compute: Compute, rows: Sequence[Row]) -> Answers:
    """An answer or an error for each row: rows whose batch fails are computed in halves."""
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
    return each_answered(compute, rows[:half]) + each_answered(compute, rows[half:])


def _fail(item: Item, error: Exception) -> None:
    if not item.future.done():
        item.future.set_exception(error)
