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


def portable(work: Work, pack: Pack) -> Iterator[Message]:
    """The messages of a pack; what goes wrong is raised as an error that survives the way between processes."""
    try:
        yield from work(pack)
    except PolytaskError as error:
        raise PolytaskError(str(error)) from None


@dataclass
class _Worker:
    process: BaseProcess
    device: str


def _in_processes(packs: Iterator[Pack], work: Work, devices: Sequence[str]) -> Iterator[Message]:
    context = multiprocessing.get_context("spawn")
    workers: dict[Connection, _Worker] = {}
    busy: list[Connection] = []

    def give(worker: Connection) -> None:
        pack = next(packs, None)
        if pack is not None:
            worker.send({**pack, "device": workers[worker].device})
            busy.append(worker)

    try:
        for device in devices:
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(work, theirs), daemon=True)
            process.start()
            theirs.close()
            workers[ours] = _Worker(process, device)
        for worker in workers:
            give(worker)
        while busy:
            for ready in wait(busy):
                assert isinstance(ready, Connection)
                try:
                    what, value = ready.recv()
                except EOFError:
                    device = workers[ready].device
                    raise PolytaskError(
                        f"a process on {device} ended without a word: the system may have run out of memory"
                    ) from None
                if what == "message":
                    yield value
                elif what == "error":
                    raise value
                else:
                    busy.remove(ready)
                    give(ready)
    finally:
        for worker, own in workers.items():
            if worker in busy and own.process.pid is not None and own.process.is_alive():
                os.kill(own.process.pid, signal.SIGINT)
            worker.close()
        for own in workers.values():
            own.process.join(GRACE_S)
            own.process.kill()


def _work(work: Work, packs: Connection) -> None:
    """In a process of its own, until the one that gives packs is gone."""
    if hasattr(os, "setsid"):
        os.setsid()  # a terminal's Ctrl-C reaches the giver alone, who passes it on once
    try:
        while True:
            for message in portable(work, packs.recv()):
                packs.send(("message", message))
            packs.send(("over", None))
    except (EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        return
    except Exception as error:
        packs.send(("error", error))
