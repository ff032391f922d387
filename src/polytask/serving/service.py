"""Answers a request, from admission to result: the core below all HTTP dialects.

Names are resolved to versions once, when a request is admitted, and those versions stay in memory until it is answered.
Texts are tokenized off the event loop; each then waits in the batcher, with the rows of all its tasks.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from polytask.adapters.store import Entry
from polytask.backbones.backbone import Backbone
from polytask.errors import AdapterError, NoSuchAdapter
from polytask.inference.inputs import problem_of
from polytask.inference.precision import fitted_elsewhere
from polytask.inference.prediction import Prediction
from polytask.serving.admission import Query, check_num_rows, check_num_tokens, check_queries, estimate_tokens
from polytask.serving.batcher import Answer, Batcher
from polytask.serving.catalog import Catalog
from polytask.serving.engine import Engine, Row
from polytask.serving.faults import Fault, fault_of
from polytask.serving.limits import Limits
from polytask.serving.metrics import Metrics
from polytask.serving.residency import Residency
from polytask.serving.watched_store import WatchedStore

log = logging.getLogger(__name__)

PROBE_TIMEOUT_S, PROBE_CACHE_S = 20.0, 1.0
MAX_LOAD_ATTEMPTS = 20


class VersionAnswer(NamedTuple):
    """The answer of one version to one text, or the error in its place."""

    entry: Entry
    answer: Answer


@dataclass(frozen=True)
class Computed:
    """The answers to the texts of a request, how many tokens they have, and how long each stage took."""

    answers: Sequence[Sequence[Answer]] = ()
    num_tokens: int = 0
    tokenization_s: float = 0.0
    queue_s: float = 0.0
    inference_s: float = 0.0


NOTHING = Computed()


@dataclass(frozen=True)
class QueryResult:
    """For each text, in order, the answers of its tasks, in order; and how long each stage took."""

    rows: Sequence[Sequence[VersionAnswer]]
    entries: Sequence[Entry]
    num_tokens: int
    tokenization_s: float
    queue_s: float
    inference_s: float


class Service:
    """Serves all adapters of a store on one backbone.

    Args:
        folder: of the store, or its fsspec URL.
        max_length: maximum tokens of a text; by default what each adapter was trained with.
    """

    def __init__(
        self, backbone: Backbone, folder: str, limits: Limits | None = None, max_length: int | None = None
    ) -> None:
        self.backbone, self.limits = backbone, limits or Limits()
        self.precision = backbone.precision
        self.metrics = Metrics(self.limits.adapter_labels)
        self.store = WatchedStore(folder)
        self.engine = Engine(backbone, self.store, batch_tokens=self.limits.batch_tokens, max_length=max_length)
        self.residency = Residency(self.engine, self.limits.memory_bytes, self._on_load)
        self.catalog = Catalog(self.store, self._admit, self.residency.drop, self._on_refused)
        self.batcher = Batcher(self.engine.answer, self.limits, self.metrics.observe_batch)
        self.is_ready = self.is_draining = False
        self.num_in_flight = 0
        self.started = time.monotonic()
        self._tokenizing = ThreadPoolExecutor(1, thread_name_prefix="polytask-tokenizer")
        self._watching = ThreadPoolExecutor(1, thread_name_prefix="polytask-watcher")
        self._watch: asyncio.Task[None] | None = None
        self._probe: asyncio.Task[str] | None = None
        self._probed_at = 0.0
        self._store_problem = ""

    # Lifecycle

    async def start(self) -> None:
        """Read the store and start answering."""
        in_engine_thread = partial(asyncio.get_running_loop().run_in_executor, self.batcher.thread)
        await in_engine_thread(self.engine.measure_short_batches)
        log.info("short batches measured", extra={"max_short_tokens": self.engine.max_short_tokens})
        self.batcher.start()
        await self.refresh()
        self._watch = asyncio.create_task(self._watch_store(), name="polytask-watcher")
        self.is_ready = True

    def drain(self) -> None:
        """Accept no new requests; accepted ones are still answered."""
        self.is_draining, self.is_ready = True, False

    async def drained(self, timeout_s: float) -> bool:
        """Wait until all accepted requests are answered; False if that takes longer than ``timeout_s``."""
        until = time.monotonic() + timeout_s
        while self.num_in_flight and time.monotonic() < until:
            await asyncio.sleep(0.01)
        return not self.num_in_flight

    async def stop(self) -> None:
        """Stop all threads."""
        self.drain()
        for task in (self._watch, self._probe):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        await self.batcher.stop()
        self.residency.close()
        self._tokenizing.shutdown(wait=False, cancel_futures=True)
        self._watching.shutdown(wait=False, cancel_futures=True)

    async def refresh(self) -> None:
        """Scan the store now.

        Raises:
            Fault: the store cannot be read; what is known of it is still served.
        """
        try:
            await asyncio.get_running_loop().run_in_executor(self._watching, self.catalog.refresh)
        except Exception as error:
            self._log_store(error)
            raise Fault("unhealthy", "the store cannot be read; try again later", retry_after_s=5) from error
        self._log_store(None)

    def _log_store(self, error: Exception | None) -> None:
        """Log that the store cannot be read, or can again; once, not at every scan."""
        problem = "" if error is None else repr(error)
        if problem and problem != self._store_problem:
            log.error("the store cannot be read", exc_info=error)
        elif self._store_problem and not problem:
            log.info("the store can be read again")
        self._store_problem = problem

    async def _watch_store(self) -> None:
        while True:
            await asyncio.sleep(self.limits.poll_s)
            with contextlib.suppress(Fault):
                await self.refresh()

    def _admit(self, entry: Entry) -> None:
        """Read and verify a whole version; keep it in memory if there is room."""
        if self.residency.num_bytes + entry.size_bytes <= self.limits.memory_bytes:
            self.residency.load(str(entry))
        else:
            self.store.get(str(entry)).fits(self.backbone)
        log.info("adapter admitted", extra={"adapter": str(entry), "digest": entry.digest})
        if warning := fitted_elsewhere(entry.header, self.precision):
            log.warning("adapter fitted in another precision", extra={"adapter": str(entry), "warning": warning})

    def _on_load(self, name: str, error: Exception | None) -> None:
        if error is None:
            self.metrics.loads.labels("loaded").inc()

    def _on_refused(self, name: str) -> None:
        self.metrics.loads.labels("refused").inc()

    # Health

    async def probe(self) -> None:
        """Run a forward pass; concurrent callers share one, whose result is kept for a second.

        Raises:
            Fault: it failed, or took too long.
        """
        is_stale = self._probe is None or (self._probe.done() and time.monotonic() - self._probed_at > PROBE_CACHE_S)
        if is_stale:
            self._probe = asyncio.create_task(self._run_probe(), name="polytask-probe")
        assert self._probe is not None, "it was started just now, if not before"
        problem = await asyncio.shield(self._probe)
        if problem:
            raise Fault("unhealthy", problem, retry_after_s=5)

    async def _run_probe(self) -> str:
        """What is wrong with the engine; empty if nothing is."""
        forward = asyncio.get_running_loop().run_in_executor(self.batcher.thread, self.engine.probe)
        try:
            await asyncio.wait_for(asyncio.shield(forward), PROBE_TIMEOUT_S)
        except asyncio.TimeoutError:
            return f"a forward pass took longer than {PROBE_TIMEOUT_S:g} s"
        except Exception as error:
            log.exception("the forward pass failed")
            return f"the forward pass failed: {type(error).__name__}"
        finally:
            self._probed_at = time.monotonic()
        return ""

    # Requests

    async def answer(
        self, queries: Sequence[Query], *, timeout_s: float | None = None, partial: bool = False
    ) -> QueryResult:
        """Run each query's tasks on its text.

        Args:
            timeout_s: deadline of this request, at most the server's own.
            partial: put the error in place of a row that fails, instead of raising it.

        Raises:
            Fault: why the request cannot be answered.
        """
        timeout_s = min(timeout_s or self.limits.timeout_s, self.limits.timeout_s)
        self._check_open(queries)
        problems = {at: problem for at, query in enumerate(queries) if (problem := problem_of(query.text)) is not None}
        if problems and not partial:
            at, problem = next(iter(problems.items()))
            raise Fault("malformed", problem, param=queries[at].param)
        with self._counted():
            try:
                return await asyncio.wait_for(self._answer(queries, problems, timeout_s, partial), timeout_s)
            except asyncio.TimeoutError:
                raise Fault("deadline", "the deadline passed before there was an answer", retry_after_s=1) from None

    def _check_open(self, queries: Sequence[Query]) -> None:
        if self.is_draining or not self.is_ready:
            state = "shutting down" if self.is_draining else "starting"
            raise Fault("draining", f"the server is {state}", retry_after_s=1)
        check_num_rows(queries, self.limits)

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        self.num_in_flight += 1
        try:
            yield
        finally:
            self.num_in_flight -= 1

    async def _answer(
        self, queries: Sequence[Query], problems: dict[int, str], timeout_s: float, is_partial: bool
    ) -> QueryResult:
        deadline = time.monotonic() + timeout_s
        references = list(dict.fromkeys(reference for query in queries for reference in query.references))
        resolved = {reference: self.catalog.resolve(reference) for reference in references}
        check_queries(queries, resolved)
        max_tokens = {reference: self.engine.max_tokens(entry) for reference, entry in resolved.items()}
        estimate = estimate_tokens(queries, max_tokens)
        check_num_tokens(estimate, self.limits)
        with self._reserved(estimate, timeout_s):
            async with self._held(resolved) as entries:
                if any(entries[reference] is not resolved[reference] for reference in references):
                    check_queries(queries, entries)
                valid = [query for at, query in enumerate(queries) if at not in problems]
                done = await self._computed(valid, entries, estimate, deadline) if valid else NOTHING
        given = _in_order(queries, entries, problems, done.answers)
        if not is_partial:
            _raise_first_error(given, queries)
        self._observe(given, done)
        times = (done.tokenization_s, done.queue_s, done.inference_s)
        return QueryResult(given, list(entries.values()), done.num_tokens, *times)

    async def _computed(
        self, queries: Sequence[Query], entries: dict[str, Entry], estimate: int, deadline: float
    ) -> Computed:
        """Tokenize and run queries whose adapters are held; ``estimate`` tokens are reserved for them."""
        start = time.monotonic()
        with self.batcher.expecting():
            rows = await self._tokenized(queries, entries)
        now = time.monotonic()
        num_tokens = sum(row.num_tokens for own in rows for row in own)
        check_num_tokens(num_tokens, self.limits)
        with self._reserved(max(0, num_tokens - estimate), deadline - now, held=estimate):
            submission = self.batcher.put(rows, deadline)
            answers = await submission.future
        tokenization_s = now - start
        return Computed(answers, num_tokens, tokenization_s, submission.queue_s, submission.inference_s)

    @contextlib.contextmanager
    def _reserved(self, num_tokens: int, timeout_s: float, held: int = 0) -> Iterator[None]:
        self.batcher.reserve(num_tokens, timeout_s, held=held)
        try:
            yield
        finally:
            self.batcher.release(num_tokens)

    @asynccontextmanager
    async def _held(self, resolved: Mapping[str, Entry]) -> AsyncIterator[dict[str, Entry]]:
        """The versions that these names refer to, kept in memory within the block."""
        entries: dict[str, Entry] = {}
        try:
            for reference, entry in resolved.items():
                entries[reference] = await self._hold(reference, entry)
            yield entries
        finally:
            for entry in entries.values():
                self.residency.release(str(entry))

    async def _hold(self, reference: str, entry: Entry) -> Entry:
        """Hold the version that a name refers to. One that cannot be loaded is refused and the next one tried."""
        for _ in range(MAX_LOAD_ATTEMPTS):
            try:
                await self.residency.hold(str(entry))
                return entry
            except NoSuchAdapter:  # removed since the last scan
                await self.refresh()
            except AdapterError as error:
                run_in_thread = asyncio.get_running_loop().run_in_executor
                await run_in_thread(self._watching, self.catalog.refuse, entry, error)
            entry = self.catalog.resolve(reference)
        raise Fault("adapter_refused", f"no version of {reference} can be loaded", param="model")

    async def _tokenized(self, queries: Sequence[Query], entries: dict[str, Entry]) -> list[list[Row]]:
        names = [[str(entries[reference]) for reference in query.references] for query in queries]
        texts, options = [query.text for query in queries], [query.options for query in queries]
        tokenize = partial(self.engine.tokenize, texts, names, options)
        return await asyncio.get_running_loop().run_in_executor(self._tokenizing, tokenize)

    def _observe(self, given: Sequence[Sequence[VersionAnswer]], done: Computed) -> None:
        self.metrics.seconds["tokenization"].observe(done.tokenization_s)
        self.metrics.seconds["queue"].observe(done.queue_s)
        for task, count in Counter(one.entry.task for row in given for one in row).items():
            self.metrics.rows.labels(self.metrics.adapter_label([task])).inc(count)

    def stats(self) -> dict[str, Any]:
        """Throughput, load and memory, for ``/v1/stats`` and the page."""
        return {
            **self.metrics.recent(),
            "uptime_s": time.monotonic() - self.started,
            "queue_tokens": self.batcher.reserved_tokens,
            "in_flight": self.num_in_flight,
            "adapters": len(self.catalog.tasks()),
            "adapters_resident": len(self.residency),
            "resident_bytes": self.residency.num_bytes,
        }


def _in_order(
    queries: Sequence[Query], entries: dict[str, Entry], problems: dict[int, str], answers: Sequence[Sequence[Answer]]
) -> list[list[VersionAnswer]]:
    """The answers of all queries, with a ``ValueError`` for each query that had a problem."""
    remaining, given = iter(answers), []
    for at, query in enumerate(queries):
        own = [ValueError(problems[at])] * len(query.references) if at in problems else next(remaining)
        given.append([VersionAnswer(entries[ref], answer) for ref, answer in zip(query.references, own, strict=True)])
    return given


def _raise_first_error(given: Sequence[Sequence[VersionAnswer]], queries: Sequence[Query]) -> None:
    for row, query in zip(given, queries, strict=True):
        for one in row:
            if not isinstance(one.answer, Prediction):
                raise fault_of(one.answer, param=query.param)
