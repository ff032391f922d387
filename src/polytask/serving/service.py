"""A request from admission to answer: the one core under all dialects.

The versions are decided when a request is admitted and stay in memory until it is answered. Texts are cut into tokens
off the event loop; then each waits, for all of its tasks at once, for a batch.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from polytask.adapters.store import Entry
from polytask.backbones.backbone import Backbone
from polytask.errors import AdapterError, DataError, NoSuchAdapter
from polytask.inference.inputs import Text, check_inputs, problem_of
from polytask.inference.prediction import Prediction
from polytask.serving.batcher import Answer, Batcher, Item
from polytask.serving.catalog import Catalog
from polytask.serving.engine import Engine, Row
from polytask.serving.faults import Fault, fault_of
from polytask.serving.limits import Limits
from polytask.serving.metrics import Metrics
from polytask.serving.residency import Residency
from polytask.serving.watched import WatchedStore

log = logging.getLogger(__name__)

CHARACTERS_A_TOKEN = 3
PROBE_S, PROBE_KEPT_S = 20.0, 1.0
MOST_TRIES = 20


@dataclass(frozen=True)
class Ask:
    """A text, and the tasks that it is asked of.

    ``param`` is where the text stands in the request.
    """

    text: Text
    references: tuple[str, ...]
    param: str = "input"


@dataclass(frozen=True)
class Given:
    """The answer of one version to one text, or the error in its place."""

    entry: Entry
    answer: Answer


@dataclass(frozen=True)
class Answered:
    """The answers of each text, in the order of its tasks, and how long everything took."""

    rows: Sequence[Sequence[Given]]
    entries: Sequence[Entry]
    num_tokens: int
    tokenization_s: float
    queue_s: float
    inference_s: float


class Service:
    """All adapters of a store, served.

    Args:
        folder: of the store, or its address for fsspec.
        max_length: tokens of a text, in place of what each adapter was trained with.
    """

    def __init__(
        self, backbone: Backbone, folder: str, limits: Limits | None = None, max_length: int | None = None
    ) -> None:
        self.backbone, self.limits = backbone, limits or Limits()
        self.metrics = Metrics(self.limits.adapter_labels)
        self.store = WatchedStore(folder)
        self.engine = Engine(backbone, self.store, batch_tokens=self.limits.batch_tokens, max_length=max_length)
        self.residency = Residency(self.engine, self.limits.memory_bytes, self._loaded)
        self.catalog = Catalog(self.store, self._admit, self.residency.drop, self._refused)
        self.batcher = Batcher(self.engine.answer, self.limits, self.metrics.batched)
        self.is_ready = self.is_draining = False
        self.num_in_flight = 0
        self.started = time.time()
        self._tokenizing = ThreadPoolExecutor(1, thread_name_prefix="polytask-tokenizer")
        self._watching = ThreadPoolExecutor(1, thread_name_prefix="polytask-watcher")
        self._watch: asyncio.Task[None] | None = None
        self._probed = (0.0, "")

    # Life

    async def start(self) -> None:
        """Read the store, and begin to answer."""
        self.batcher.start()
        await self.refresh()
        self._watch = asyncio.create_task(self._watched(), name="polytask-watcher")
        self.is_ready = True

    def drain(self) -> None:
        """Accept nothing more; what was accepted is answered."""
        self.is_draining, self.is_ready = True, False

    async def drained(self, timeout_s: float) -> bool:
        """Wait until everything accepted is answered; whether it was."""
        until = time.monotonic() + timeout_s
        while self.num_in_flight and time.monotonic() < until:
            await asyncio.sleep(0.01)
        return not self.num_in_flight

    async def stop(self) -> None:
        """End all threads."""
        self.drain()
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await self.batcher.stop()
        self.residency.close()
        self._tokenizing.shutdown(wait=False, cancel_futures=True)
        self._watching.shutdown(wait=False, cancel_futures=True)

    async def refresh(self) -> None:
        """Look at the store now."""
        await asyncio.get_running_loop().run_in_executor(self._watching, self.catalog.refresh)

    async def _watched(self) -> None:
        while True:
            await asyncio.sleep(self.limits.poll_s)
            try:
                await self.refresh()
            except Exception:  # a store that cannot be read for a while: what is known is served
                log.exception("the store cannot be read")

    def _admit(self, entry: Entry) -> None:
        """Read a version whole; into memory, if there is room."""
        if self.residency.num_bytes + entry.size_bytes <= self.limits.memory_bytes:
            self.residency.load(str(entry))
        else:
            self.store.get(str(entry)).fits(self.backbone)
        log.info("adapter admitted", extra={"adapter": str(entry), "digest": entry.digest})

    def _loaded(self, name: str, error: Exception | None) -> None:
        if error is None:
            self.metrics.loads.labels("loaded").inc()

    def _refused(self, name: str) -> None:
        self.metrics.loads.labels("refused").inc()

    # Health

    async def probe(self) -> None:
        """A real forward pass, behind at most the batch that is computed now.

        Raises:
            Fault: it failed, or took too long.
        """
        at, problem = self._probed
        if time.monotonic() - at > PROBE_KEPT_S:
            problem = await self._probe()
            self._probed = (time.monotonic(), problem)
        if problem:
            raise Fault("unhealthy", problem, retry_after_s=5)

    async def _probe(self) -> str:
        work = asyncio.get_running_loop().run_in_executor(self.batcher.thread, self.engine.probe)
        try:
            await asyncio.wait_for(asyncio.shield(work), PROBE_S)
        except asyncio.TimeoutError:
            return f"a forward pass took longer than {PROBE_S:g} s"
        except Exception as error:
            log.exception("the forward pass failed")
            return f"the forward pass failed: {type(error).__name__}"
        return ""

    # Answers

    async def ask(self, asks: Sequence[Ask], *, timeout_s: float | None = None, partial: bool = False) -> Answered:
        """Answer texts.

        Args:
            timeout_s: no longer than the server's own.
            partial: an error stands in place of a row that has no answer; else it is raised.

        Raises:
            Fault: with the reason, for the client.
        """
        timeout_s = min(timeout_s or self.limits.timeout_s, self.limits.timeout_s)
        deadline = time.monotonic() + timeout_s
        self._check_open(asks)
        problems = {at: problem for at, ask in enumerate(asks) if (problem := problem_of(ask.text)) is not None}
        if problems and not partial:
            at, problem = next(iter(problems.items()))
            raise Fault("malformed", problem, param=asks[at].param)
        references = list(dict.fromkeys(reference for ask in asks for reference in ask.references))
        with self._counted():
            estimate = self._estimate(asks, {reference: self.catalog.resolve(reference) for reference in references})
            with self._reserved(estimate, timeout_s):
                async with self._held(references) as entries:
                    return await self._answered(asks, entries, problems, deadline, partial)

    def _check_open(self, asks: Sequence[Ask]) -> None:
        if self.is_draining or not self.is_ready:
            what = "is shutting down" if self.is_draining else "is starting"
            raise Fault("draining", f"the server {what}", retry_after_s=1)
        num_rows = sum(len(ask.references) for ask in asks)
        if num_rows > self.limits.request_rows:
            most = f"{num_rows:,} rows in one request; at most {self.limits.request_rows:,} are answered"
            raise Fault("too_large", f"{most}. Send several requests", param="input")

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        self.num_in_flight += 1
        try:
            yield
        finally:
            self.num_in_flight -= 1

    def _estimate(self, asks: Sequence[Ask], entries: dict[str, Entry]) -> int:
        """Tokens of a request, by the length of its texts, before they are cut.

        Raises:
            Fault: more than the queue holds, or a text that a task does not take.
        """
        limits = {reference: self.engine.limit(entry) for reference, entry in entries.items()}
        total = 0
        for ask in asks:
            length = sum(map(len, map(str, ask.text))) if isinstance(ask.text, tuple) else len(str(ask.text))
            for reference in ask.references:
                self._check_takes(ask, reference, entries[reference])
                total += min(length // CHARACTERS_A_TOKEN + 8, limits[reference] or length)
        if total > self.limits.queue_tokens:
            most = f"some {total:,} tokens in one request; at most {self.limits.queue_tokens:,} are answered"
            raise Fault("too_large", f"{most}. Send several requests", param="input")
        return total

    def _check_takes(self, ask: Ask, reference: str, entry: Entry) -> None:
        takes = entry.header.takes
        if takes is None or isinstance(ask.text, tuple) == (takes != "single"):
            return
        try:
            check_inputs([ask.text], [reference], [str(entry)], [takes])
        except DataError as error:
            said = str(error).partition(". ")[0]
            fix = "Send a text" if takes == "single" else "Send pairs: [[text, second text], …]"
            raise Fault("malformed", f"{said}. {fix}", param=ask.param) from None

    @contextlib.contextmanager
    def _reserved(self, num_tokens: int, timeout_s: float) -> Iterator[None]:
        self.batcher.reserve(num_tokens, timeout_s)
        try:
            yield
        finally:
            self.batcher.give_back(num_tokens)

    @asynccontextmanager
    async def _held(self, references: Sequence[str]) -> AsyncIterator[dict[str, Entry]]:
        """The versions that these names mean now, which stay in memory within the block."""
        entries: dict[str, Entry] = {}
        try:
            for reference in references:
                entries[reference] = await self._hold(reference)
            yield entries
        finally:
            for entry in entries.values():
                self.residency.release(str(entry))

    async def _hold(self, reference: str) -> Entry:
        """Hold the version that a name means; one that turns out not to be loadable is refused, and another tried."""
        for _ in range(MOST_TRIES):
            entry = self.catalog.resolve(reference)
            try:
                await self.residency.hold(str(entry))
                return entry
            except NoSuchAdapter:  # removed since the last look
                await self.refresh()
            except AdapterError as error:
                in_thread = asyncio.get_running_loop().run_in_executor
                await in_thread(self._watching, self.catalog.refuse, entry, error)
        raise Fault("adapter_refused", f"no version of {reference} can be loaded", param="model")

    async def _answered(
        self,
        asks: Sequence[Ask],
        entries: dict[str, Entry],
        problems: dict[int, str],
        deadline: float,
        is_partial: bool,
    ) -> Answered:
        sound = [ask for at, ask in enumerate(asks) if at not in problems]
        names = [[str(entries[reference]) for reference in ask.references] for ask in sound]
        start = time.monotonic()
        cut = partial(self._cut, [ask.text for ask in sound], names)
        rows = await asyncio.get_running_loop().run_in_executor(self._tokenizing, cut)
        tokenization_s = time.monotonic() - start
        items = [self.batcher.put(own, deadline) for own in rows]
        answers = iter(await self._waited(items, deadline))
        given = []
        for at, ask in enumerate(asks):
            own = [ValueError(problems[at])] * len(ask.references) if at in problems else next(answers)
            given.append([Given(entries[ref], answer) for ref, answer in zip(ask.references, own, strict=True)])
        if not is_partial:
            _raise_first(given, asks)
        queue_s, inference_s = (max((getattr(i, of) for i in items), default=0.0) for of in ("queue_s", "inference_s"))
        self._measure(given, tokenization_s, queue_s)
        num_tokens = sum(item.num_tokens for item in items)
        return Answered(given, list(entries.values()), num_tokens, tokenization_s, queue_s, inference_s)

    def _cut(self, texts: Sequence[Text], names: Sequence[Sequence[str]]) -> list[list[Row]]:
        return [self.engine.rows(text, own) for text, own in zip(texts, names, strict=True)]

    async def _waited(self, items: Sequence[Item], deadline: float) -> list[Sequence[Answer]]:
        """The answers of all items; whatever happens, none is left in the queue."""
        try:
            futures = [item.future for item in items]
            if futures:
                await asyncio.wait(futures, timeout=max(0.0, deadline - time.monotonic()))
            if not all(future.done() for future in futures):
                raise Fault("deadline", "the deadline passed before there was an answer", retry_after_s=1)
            for future in futures:
                if (error := future.exception()) is not None:
                    raise error
            return [future.result() for future in futures]
        finally:
            for item in items:
                if not item.future.cancel() and not item.future.cancelled():
                    item.future.exception()  # it was seen

    def _measure(self, given: Sequence[Sequence[Given]], tokenization_s: float, queue_s: float) -> None:
        self.metrics.seconds["tokenization"].observe(tokenization_s)
        self.metrics.seconds["queue"].observe(queue_s)
        counts: dict[str, int] = {}
        for row in given:
            for one in row:
                counts[one.entry.task] = counts.get(one.entry.task, 0) + 1
        for task, count in counts.items():
            self.metrics.rows.labels(self.metrics.label([task])).inc(count)

    def stats(self) -> dict[str, Any]:
        """What the page shows beside the answers."""
        return {
            **self.metrics.recent(),
            "uptime_s": time.time() - self.started,
            "queue_tokens": self.batcher.reserved_tokens,
            "in_flight": self.num_in_flight,
            "adapters": len(self.catalog.tasks()),
            "adapters_resident": len(self.residency),
            "resident_bytes": self.residency.num_bytes,
        }


def _raise_first(given: Sequence[Sequence[Given]], asks: Sequence[Ask]) -> None:
    """The first error among the answers."""
    for row, ask in zip(given, asks, strict=True):
        for one in row:
            if not isinstance(one.answer, Prediction):
                raise fault_of(one.answer, param=ask.param)
