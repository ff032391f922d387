"""Freed memory stays in the process within the block and is returned after it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from polytask import memory

FAULTS = """
import resource, torch
from polytask.memory import keep_freed_memory
from contextlib import nullcontext
def faults(block):
    with block:
        for turn in range(12):
            if turn == 6:
                before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            parts = [torch.ones(1 << 20) for _ in range(30)]
            del parts
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
def resident():
    return int(open("/proc/self/statm").read().split()[1])
without, within = faults(nullcontext()), faults(keep_freed_memory())
print(without, within, resident())
"""


@pytest.mark.skipif(memory._libc is None or sys.platform != "linux", reason="glibc on Linux only")
def test_freed_memory_is_reused_within_the_block() -> None:
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    without, within, _ = map(int, done.stdout.split())
    assert within <= max(100, without // 10)


GIVEN_BACK = """
import torch
from polytask.memory import keep_freed_memory
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
torch.ones(1)
before = resident()
with keep_freed_memory():
    with keep_freed_memory():
        parts = [torch.ones(1 << 20) for _ in range(60)]
        del parts
    held = resident()
print(held - before, resident() - before)
"""


@pytest.mark.skipif(memory._libc is None or sys.platform != "linux", reason="glibc on Linux only")
def test_memory_is_returned_at_the_end_of_the_outermost_block() -> None:
    done = subprocess.run([sys.executable, "-c", GIVEN_BACK], capture_output=True, text=True, check=True)
    held, left = map(int, done.stdout.split())
    assert held > 200 << 20
    assert left < 40 << 20


def test_where_there_is_no_glibc_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_libc", None)
    with memory.keep_freed_memory():
        pass


@pytest.mark.parametrize("version", [1, 2])
def test_the_limit_of_a_container_counts(tmp_path: Path, version: int) -> None:
    top = tmp_path if version == 2 else tmp_path / "memory"
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    for group, limit in ((top, "max"), (top / "pod", "1000"), (top / "pod" / "own", "700")):
        group.mkdir(parents=True, exist_ok=True)
        for name, value in zip((*names, "memory.stat"), (limit, "600", "anon 1\ninactive_file 50\n"), strict=True):
            (group / name).write_text(value)
    own = tmp_path / "own"
    own.write_text("0::/pod/own\n" if version == 2 else "5:cpu,memory:/pod/own\n3:pids:/x\n")
    assert list(memory._free_in_cgroups(tmp_path, own)) == [150, 450]
    assert list(memory._free_in_cgroups(tmp_path, tmp_path / "none")) == []
