"""Runs packs on this machine: in this process, or in one process per device."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext
from multiprocessing.process import BaseProcess
from typing import Any

from polytask.errors import PolytaskError

Pack = Mapping[str, Any]
Message = dict[str, Any]
Work = Callable[[Pack], Iterator[Message]]

GRACE_S = 60.0
"""How long an interrupted process may take to write its checkpoints before it is killed."""


def run_packs(packs: Iterator[Pack], work: Work, *, devices: Sequence[str] = ("cpu",)) -> Iterator[Message]:
    """Run packs, one at a time per device; with a single device, in this process.

    Args:
        packs: the next pack is taken when a device is free.
        work: a function at the top level of a module. It finds its device in the pack, as ``device``.
        devices: such as ``("cuda:0", "cuda:1")``; a device may be listed more than once.

    Raises:
        PolytaskError: a process died without an error message, for example killed for lack of memory.
    """
    if len(devices) == 1:
        for pack in packs:
            yield from work({**pack, "device": devices[0]})
        return
    yield from _run_in_processes(packs, work, devices)


def with_picklable_errors(work: Work, pack: Pack) -> Iterator[Message]:
    """The messages of a pack. Every ``PolytaskError`` becomes one with the message alone, which can be pickled."""
    try:
        yield from work(pack)
    except PolytaskError as error:
        raise PolytaskError(str(error)) from None


class _Worker:
    """A process that runs packs on one device."""

    def __init__(self, context: SpawnContext, work: Work, device: str) -> None:
        self.device = device
        self.connection, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=_run_received_packs, args=(work, theirs), daemon=True)
        self.process.start()
        theirs.close()

    def receive(self) -> tuple[str, Any]:
        """The next ``("message", value)``, ``("error", exception)`` or ``("over", None)``."""
        try:
            return self.connection.recv()  # type: ignore[no-any-return]
        except EOFError:
            raise PolytaskError(
                f"a process on {self.device} died without an error message: the system may have run out of memory"
            ) from None

    def interrupt(self) -> None:
        """Send the process a Ctrl-C, so that it writes its checkpoints."""
        if self.process.pid is not None and self.process.is_alive():
            os.kill(self.process.pid, signal.SIGINT)


def _run_in_processes(packs: Iterator[Pack], work: Work, devices: Sequence[str]) -> Iterator[Message]:
    context = multiprocessing.get_context("spawn")
    workers: dict[Connection, _Worker] = {}
    busy: list[Connection] = []

    def send_next_pack(connection: Connection) -> None:
        pack = next(packs, None)
        if pack is not None:
            connection.send({**pack, "device": workers[connection].device})
            busy.append(connection)

    try:
        for device in devices:
            worker = _Worker(context, work, device)
            workers[worker.connection] = worker
        for connection in workers:
            send_next_pack(connection)
        while busy:
            for ready in wait(busy):
                assert isinstance(ready, Connection)
                what, value = workers[ready].receive()
                if what == "message":
                    yield value
                elif what == "error":
                    raise value
                else:
                    busy.remove(ready)
                    send_next_pack(ready)
    finally:
        _stop(workers, busy)


def _stop(workers: Mapping[Connection, _Worker], busy: Sequence[Connection]) -> None:
    """Interrupt the workers that are busy, and wait for all to end; after ``GRACE_S`` kill them."""
    for connection, worker in workers.items():
        if connection in busy:
            worker.interrupt()
        connection.close()
    for worker in workers.values():
        worker.process.join(GRACE_S)
        worker.process.kill()


def _run_received_packs(work: Work, connection: Connection) -> None:
    """The main function of a worker process: run packs until the parent closes the connection."""
    if hasattr(os, "setsid"):
        os.setsid()  # a terminal's Ctrl-C then reaches the parent only, which passes it on once
    try:
        while True:
            for message in with_picklable_errors(work, connection.recv()):
                connection.send(("message", message))
            connection.send(("over", None))
    except (EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        return
    except Exception as error:
        connection.send(("error", error))
