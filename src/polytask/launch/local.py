"""Packs run here: in this process, or in a process for each of several devices."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from polytask.errors import PolytaskError

Pack = Mapping[str, Any]
Message = dict[str, Any]
Work = Callable[[Pack], Iterator[Message]]

GRACE_S = 60.0
"""What a process has to write its checkpoints when it is interrupted."""


def run(packs: Iterator[Pack], work: Work, *, devices: Sequence[str] = ("cpu",)) -> Iterator[Message]:
    """Run packs, as many at once as there are devices; with one device, in this process.

    Args:
        packs: taken when a device is free for the next one.
        work: at the top level of a module. A pack's ``device`` is set for it.
        devices: such as ``("cuda:0", "cuda:1")``; the same one may be there twice.

    Raises:
        PolytaskError: a process ended without a word, as one that is killed for its memory does.
    """
    if len(devices) == 1:
        for pack in packs:
            yield from work({**pack, "device": devices[0]})
        return
    yield from _in_processes(packs, work, devices)


@dataclass
class _Worker:
    process: BaseProcess
    messages: Connection
    device: str


def _in_processes(packs: Iterator[Pack], work: Work, devices: Sequence[str]) -> Iterator[Message]:
    context = multiprocessing.get_context("spawn")
    workers: dict[Connection, _Worker] = {}
    free = list(devices)

    def start() -> None:
        while free:
            pack = next(packs, None)
            if pack is None:
                return
            device = free.pop(0)
            receiving, sending = context.Pipe(duplex=False)
            process = context.Process(target=_work, args=(work, {**pack, "device": device}, sending), daemon=True)
            process.start()
            sending.close()
            workers[receiving] = _Worker(process, receiving, device)

    try:
        start()
        while workers:
            for ready in wait(list(workers)):
                assert isinstance(ready, Connection)
                worker = workers[ready]
                try:
                    what, value = ready.recv()
                except EOFError:
                    raise PolytaskError(
                        f"a process on {worker.device} ended without a word: the system may have run out of memory"
                    ) from None
                if what == "message":
                    yield value
                elif what == "error":
                    raise value
                else:
                    del workers[ready]
                    worker.process.join()
                    free.append(worker.device)
                    start()
    finally:
        for worker in workers.values():
            if worker.process.pid is not None and worker.process.is_alive():
                os.kill(worker.process.pid, signal.SIGINT)
            worker.messages.close()
        for worker in workers.values():
            worker.process.join(GRACE_S)
            worker.process.kill()


def _work(work: Work, pack: Pack, messages: Connection) -> None:
    """In a process of its own. When the one that reads is gone, the next message ends it."""
    if hasattr(os, "setsid"):
        os.setsid()  # a terminal's Ctrl-C reaches the reader alone, who passes it on once
    try:
        for message in work(pack):
            messages.send(("message", message))
        messages.send(("over", None))
    except (BrokenPipeError, KeyboardInterrupt):
        return
    except Exception as error:
        messages.send(("error", error))
