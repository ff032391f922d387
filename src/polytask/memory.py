"""How much memory is free; and freed memory that stays with the process while it is needed again a moment later.

A training step allocates and frees the same hundred megabytes each time. The C library gives what is free back to the
system and asks for it anew, and the system hands out each page with zeros in it: a tenth of a step is spent on that on
a calm machine, and more than half on one that is short of memory (benchmarks/memory.py). Within ``kept`` it is not
given back; afterwards it is. glibc only; elsewhere nothing is done.
"""

from __future__ import annotations

import ctypes
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

MIB = 1 << 20
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Parameters of ``mallopt``: free bytes at the heap's end that are given back, and the size of what is mapped alone."""


def free_bytes(device: torch.device) -> int:
    """Memory that is free on a device; of a CPU no more than a container's limit leaves."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        with open("/proc/meminfo", encoding="utf-8") as file:
            fields = dict(line.split(":", 1) for line in file)
        available = int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return min([available, *_left_in_groups()])


_LIMITS = (
    ("", "", "memory.max", "memory.current"),
    ("memory", "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
)
"""Of control groups of version 2 and 1: the controller's name, its folder, and the files of limit and usage."""


def _left_in_groups(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> Iterator[int]:
    """What the limits of this process's control groups leave, the innermost first."""
    try:
        lines = [line.split(":", 2) for line in own.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return
    for controller, folder, limit, usage in _LIMITS:
        for path in (path.strip("/") for _, names, path in lines if controller in names.split(",")):
            group = root / folder / path
            for place in (group, *group.parents[: len(Path(path).parts)]):
                left = _left_in(place, limit, usage)
                if left is not None:
                    yield left


def _left_in(group: Path, limit: str, usage: str) -> int | None:
    """What one group's limit leaves, files that are only kept in memory counted as free; None where it has none."""
    try:
        most, used, stat = ((group / name).read_text(encoding="utf-8") for name in (limit, usage, "memory.stat"))
    except OSError:
        return None
    kept = sum(map(int, re.findall(r"^inactive_file (\d+)", stat, re.MULTILINE)))
    return max(0, int(most) - int(used) + kept) if most.strip().isdigit() else None


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Within the block (the outermost, of all threads) freed memory stays with the process."""
    _hold(1)
    try:
        yield
    finally:
        _hold(-1)


def _hold(change: int) -> None:
    global _holders
    with _lock:
        before, _holders = _holders, _holders + change
        if _libc is None or (before > 0) == (_holders > 0):
            return
        _libc.mallopt(MMAP_THRESHOLD, 32 * MIB)
        _libc.mallopt(TRIM_THRESHOLD, 2**31 - 1 if _holders else 64 * MIB)
        if not _holders:
            _libc.malloc_trim(0)


def _glibc() -> Any:
    """The C library where it is glibc."""
    try:
        library = ctypes.CDLL(None)
        return library if hasattr(library, "mallopt") and hasattr(library, "gnu_get_libc_version") else None
    except (OSError, TypeError):
        return None


_libc, _lock, _holders = _glibc(), threading.Lock(), 0
