"""The batcher: size and order of batches, failures, deadlines, back-pressure."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest

from polytask.data.encoding import Encoded
from polytask.inference.prediction import Prediction
from polytask.serving.batcher import Batcher, compute_bisecting
from polytask.serving.engine import Row
from polytask.serving.faults import Fault
from polytask.serving.limits import Limits

FAR = 1e12


def row(name: str, num_tokens: int = 4) -> Row:
    return Row(Encoded([[7] * num_tokens], None, 0), name)


def echo(rows: Sequence[Row]) -> list[Any]:
    """Answers each row with its name; a row named ``bad`` fails the whole batch."""
    if any(row.name == "bad" for row in rows):
        raise RuntimeError("a poisoned row")
    return [Prediction(row.name) for row in rows]


class Recorded:
    """Records the batches it computes; waits for ``gate`` first."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, rows: Sequence[Row]) -> list[Any]:
        self.gate.wait()
        self.batches.append([row.name for row in rows])
        return echo(rows)


def run(compute: Any, work: Any, **limits: Any) -> Any:
    async def whole() -> Any:
        batcher = Batcher(compute, Limits(**limits))
        batcher.start()
        try:
            return await work(batcher)
        finally:
            await batcher.stop()

    return asyncio.run(whole())


def test_only_the_failing_row_of_a_batch_fails() -> None:
    names = [f"t{n}" for n in range(13)] + ["bad"] + [f"u{n}" for n in range(9)]
    answers = compute_bisecting(echo, [row(name) for name in names])
    for name, answer in zip(names, answers, strict=True):
        if name == "bad":
            assert isinstance(answer, RuntimeError)
        else:
            assert isinstance(answer, Prediction)
            assert answer.task == name


def test_rows_whose_answers_are_missing_get_errors() -> None:
    answers = compute_bisecting(lambda rows: [Prediction("one")], [row("a"), row("b"), row("c")])
    assert [type(answer) for answer in answers] == [Prediction] * 3
    answers = compute_bisecting(lambda rows: [], [row("a"), row("b")])
    assert all(isinstance(answer, RuntimeError) and "0 answers" in str(answer) for answer in answers)


def test_batches_respect_the_token_budget_and_the_order_of_arrival() -> None:
    engine = Recorded()
    engine.gate.clear()

    async def work(batcher: Batcher) -> None:
        waiting = [batcher.put([[row(f"t{n}", 4)]], FAR) for n in range(5)]
        waiting.append(batcher.put([[row(f"t{n}", 4)] for n in range(5, 10)], FAR))
        await asyncio.sleep(0.05)
        engine.gate.set()
        await asyncio.gather(*(one.future for one in waiting))

    run(engine, work, batch_tokens=12, max_wait_s=0.0)
    assert [name for batch in engine.batches for name in batch] == [f"t{n}" for n in range(10)]
    assert max(map(len, engine.batches)) == 3


def test_the_rows_of_one_text_share_a_batch() -> None:
    engine = Recorded()

    async def work(batcher: Batcher) -> None:
        submission = batcher.put([[row(f"{n}{task}", 6) for task in "abc"] for n in range(4)], FAR)
        answers = await submission.future
        assert [[answer.task for answer in own] for own in answers] == [
            [f"{n}{task}" for task in "abc"] for n in range(4)
        ]

    run(engine, work, batch_tokens=20, max_wait_s=0.01)
    assert engine.batches == [[f"{n}a", f"{n}b", f"{n}c"] for n in range(4)]


def test_an_item_larger_than_the_budget_gets_its_own_batch() -> None:
    engine = Recorded()

    async def work(batcher: Batcher) -> None:
        await batcher.put([[row("small")], [row("large", 500)], [row("s2")]], FAR).future

    run(engine, work, batch_tokens=16, max_wait_s=0.01)
    assert engine.batches == [["small"], ["large"], ["s2"]]


def test_an_idle_engine_waits_for_requests_that_are_being_tokenized_but_not_longer_than_max_wait() -> None:
    engine = Recorded()

    async def work(batcher: Batcher) -> None:
        with batcher.expecting():
            first = batcher.put([[row("first")]], FAR)
            await asyncio.sleep(0.05)
            assert not first.future.done()
        second = batcher.put([[row("second")]], FAR)
        await asyncio.gather(first.future, second.future)
        assert engine.batches == [["first", "second"]]
        with batcher.expecting():
            batcher.limits = Limits(max_wait_s=0.01)
            await batcher.put([[row("alone")]], FAR).future

    run(engine, work, batch_tokens=1000, max_wait_s=60.0)
    assert engine.batches[1:] == [["alone"]]


def test_a_request_that_comes_alone_is_computed_at_once() -> None:
    async def work(batcher: Batcher) -> None:
        await batcher.put([[row("alone")]], FAR).future
        with pytest.raises(RuntimeError, match="tokenizing"), batcher.expecting():
            raise RuntimeError("tokenizing failed")
        await batcher.put([[row("again")]], FAR).future

    run(Recorded(), work, max_wait_s=1e6)


def test_a_full_batch_does_not_wait() -> None:
    async def work(batcher: Batcher) -> None:
        with batcher.expecting():
            await batcher.put([[row("full", 8)]], FAR).future

    run(Recorded(), work, batch_tokens=8, max_wait_s=1e6)


def test_cancelled_and_expired_items_are_not_computed() -> None:
    engine = Recorded()
    engine.gate.clear()

    async def work(batcher: Batcher) -> None:
        first = batcher.put([[row("first")]], FAR)
        await asyncio.sleep(0.05)  # now it is with the engine
        gone, late, kept = (batcher.put([[row(name)]], FAR) for name in ("gone", "late", "kept"))
        gone.future.cancel()
        late.deadline = time.monotonic() - 1
        engine.gate.set()
        await asyncio.gather(first.future, kept.future)
        with pytest.raises(Fault, match="deadline") as caught:
            await late.future
        assert caught.value.status == 504

        assert batcher.queued_tokens == 0

    run(engine, work, max_wait_s=0.0)
    assert engine.batches == [["first"], ["kept"]]


def test_texts_of_a_request_that_has_ended_leave_the_queue() -> None:
    engine = Recorded()
    engine.gate.clear()

    async def work(batcher: Batcher) -> None:
        request = asyncio.ensure_future(batcher.put([[row(f"gone{n}", 4)] for n in range(3)], FAR).future)
        await asyncio.sleep(0.05)  # its first text is with the engine
        request.cancel()
        kept = batcher.put([[row("kept", 4)]], FAR)
        engine.gate.set()
        assert (await kept.future)[0][0] == Prediction("kept")
        assert not batcher.queue
        assert not batcher.queued_tokens

    run(engine, work, batch_tokens=4, max_wait_s=0.0)
    assert engine.batches == [["gone0"], ["kept"]]


def test_a_request_larger_than_a_batch_is_answered_when_all_its_texts_are() -> None:
    async def work(batcher: Batcher) -> None:
        poisoned = batcher.put([[row("a", 4)], [row("bad", 4), row("b", 4)], [row("c", 4)]], FAR)
        answers = await poisoned.future
        assert [[type(answer) for answer in own] for own in answers] == [
            [Prediction],
            [RuntimeError, Prediction],
            [Prediction],
        ]
        assert poisoned.queue_s >= 0 < poisoned.inference_s

    run(Recorded(), work, batch_tokens=4, max_wait_s=0.0)


def test_the_queue_is_bounded_and_refusals_have_a_retry_time() -> None:
    async def work(batcher: Batcher) -> None:
        batcher.reserve(500, 30)  # an idle server takes what is larger than its queue
        with pytest.raises(Fault) as caught:
            batcher.reserve(1, 30)
        assert (caught.value.status, "Retry-After" in caught.value.headers()) == (429, True)
        batcher.release(500)
        batcher.reserve(100, 30)
        batcher._throughput = 100.0, 60.0  # what is waiting takes a minute
        for timeout_s, queue_s in ((30.0, 1000.0), (1000.0, 5.0)):
            batcher.limits = Limits(queue_tokens=200, queue_s=queue_s)
            with pytest.raises(Fault):
                batcher.reserve(1, timeout_s)
        batcher.limits = Limits(queue_tokens=200, queue_s=1000.0)
        batcher.reserve(1, 1000)
        batcher.reserve(500, 30, held=101)  # a request that turns out larger competes with others only

    run(Recorded(), work, queue_tokens=200)


def test_small_batches_do_not_lower_the_expected_throughput_of_full_ones() -> None:
    async def work(batcher: Batcher) -> None:
        batcher.reserve(16_000, 30)
        batcher._measure([], 4096, 0.2)
        full = batcher.expected_wait_s
        for _ in range(100):
            batcher._measure([], 3, 0.005)
        assert abs(batcher.expected_wait_s - full) < 0.01 * full
        for _ in range(20):
            batcher._measure([], 4096, 0.4)
        assert batcher.expected_wait_s == pytest.approx(16_000 / 4096 * 0.4, rel=0.05)

    run(Recorded(), work, batch_tokens=4096)


def test_every_item_is_resolved_when_the_engine_fails_or_the_batcher_stops() -> None:
    class Dying(BaseException):
        pass

    calls = []

    def die(rows: Sequence[Row]) -> list[Any]:
        calls.append(len(rows))
        raise MemoryError if len(calls) % 2 else RuntimeError("no")

    async def work(batcher: Batcher) -> list[Any]:
        return await batcher.put([[row(f"t{n}"), row("x")] for n in range(5)], FAR).future

    for answers in run(die, work, max_wait_s=0.01):
        assert all(isinstance(answer, Exception) for answer in answers)

    engine = Recorded()
    engine.gate.clear()

    async def stopped() -> None:
        batcher = Batcher(engine, Limits(max_wait_s=0.0))
        batcher.start()
        running = batcher.put([[row("running")]], FAR)
        await asyncio.sleep(0.05)
        queued = batcher.put([[row("queued")]], FAR)
        threading.Timer(0.1, engine.gate.set).start()
        await batcher.stop()
        for item in (running, queued):
            with pytest.raises(Fault) as caught:
                await item.future
            assert caught.value.status == 503

    asyncio.run(stopped())
