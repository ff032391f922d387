"""Processes that write to a store: ``python -m tests.writers put FOLDER COUNT SEED`` and ``… killed FOLDER ROUNDS``.

They are started as processes of their own, since what is tested is what happens between processes.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

from polytask.adapters.store import Store
from polytask.errors import NoSuchAdapter
from polytask.methods import LayerNormOnly
from tests.samples import created


def put_many(folder: Path, count: int, seed: int) -> None:
    """Put so many different adapters, each with an alias of its own; print their versions and digests."""
    store = Store(folder)
    adapters = [created(seed=seed + n) for n in range(count)]
    print("ready", flush=True)
    sys.stdin.readline()
    for n, adapter in enumerate(adapters):
        entry = store.put(adapter, alias=f"a{seed + n}")
        print(entry.version, entry.digest, flush=True)


def killed(folder: Path, rounds: int) -> None:
    """Kill two writers at a random moment, so many times, and look at what they leave."""
    store, dice = Store(folder), random.Random(0)
    adapters = [created(LayerNormOnly(), seed=seed) for seed in range(6)]
    digests: dict[int, str] = {}
    removed: set[int] = set()
    for _ in range(rounds):
        reading, writing = os.pipe()
        writers = [_forked(store, adapters, writing) for _ in range(2)]
        os.close(writing)
        time.sleep(dice.uniform(0.0, 0.12))
        for writer in writers:
            os.kill(writer, signal.SIGKILL)
            os.waitpid(writer, 0)
        for line in os.fdopen(reading).read().splitlines():
            what, version, digest = line.split()
            if what == "removing":
                removed.add(int(version))
            else:
                assert int(version) not in digests, f"{version} was given twice"
                digests[int(version)] = digest
        assert store.verify() == [], store.verify()  # every file is read to the last byte
        there = {entry.version: entry.digest for entry in store.list()}
        lost = {version for version in digests if version not in removed and there.get(version) != digests[version]}
        assert not lost, f"{lost} were put and are gone"
    leftover = {name for name in os.listdir(folder / "spam") if name.endswith(".part")}
    swept = {Path(path).name for path in store.gc(older_than_s=-1.0)}
    assert swept == leftover, (swept, leftover)
    assert {entry.version: entry.digest for entry in store.list()} == there
    print(len(digests), len(removed), len(swept))


def _forked(store: Store, adapters: list[object], acknowledge: int) -> int:
    """A process that puts, aliases and removes until it is killed, and says what it was told had happened."""
    child = os.fork()
    if child:
        return child
    for turn in range(10**6):
        entry = store.put(adapters[turn % 6], alias="prod" if turn % 5 == 0 else None)  # type: ignore[arg-type]
        os.write(acknowledge, f"put {entry.version} {entry.digest}\n".encode())
        if turn % 3 == 1:
            os.write(acknowledge, f"removing {entry.version} -\n".encode())
            store.remove(str(entry))
            try:
                store.get(str(entry))
            except NoSuchAdapter:
                continue
            os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    verb, folder, *numbers = sys.argv[1:]
    {"put": put_many, "killed": killed}[verb](Path(folder), *map(int, numbers))
