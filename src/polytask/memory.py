"""Free memory of a device, and a way to keep freed memory in the process.

A training step allocates and frees the same hundred megabytes each time. The C library returns freed memory to the
system and requests it again, and the system clears each page: this takes a tenth of a step on an idle machine, and more
than half on one that is short of memory (benchmarks/memory.py). Within ``keep_freed_memory`` the memory stays in the
process; afterwards it is returned. This works with glibc only; elsewhere it does nothing.
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
"""Parameters of ``mallopt``: free bytes at the end of the heap before they are returned; size from which to mmap."""


def free_bytes(device: torch.device) -> int:
    """Free memory of a device in bytes; on a CPU at most what the limits of the container leave."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        with open("/proc/meminfo", encoding="utf-8") as file:
            fields = dict(line.split(":", 1) for line in file)
        available = int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return min([available, *_free_in_cgroups()])


_LIMITS = (
    ("", "", "memory.max", "memory.current"),
    ("memory", "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
)
"""For cgroups of version 2 and 1: the controller's name, its folder, and the files with limit and usage."""


def _free_in_cgroups(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> Iterator[int]:
    """The bytes that the limits of this process's cgroups leave, innermost group first."""
    try:
        lines = [line.split(":", 2) for line in own.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return
    for controller, folder, limit, usage in _LIMITS:
        for path in (path.strip("/") for _, names, path in lines if controller in names.split(",")):
            group = root / folder / path
            for place in (group, *group.parents[: len(Path(path).parts)]):
                left = _free_in_cgroup(place, limit, usage)
                if left is not None:
                    yield left


def _free_in_cgroup(group: Path, limit: str, usage: str) -> int | None:
    """The bytes that the limit of one cgroup leaves, with the page cache counted as free; None if it has no limit."""
    try:
        most, used, stat = ((group / name).read_text(encoding="utf-8") for name in (limit, usage, "memory.stat"))
    except OSError:
        return None
    kept = sum(map(int, re.findall(r"^inactive_file (\d+)", stat, re.MULTILINE)))
    return max(0, int(most) - int(used) + kept) if most.strip().isdigit() else None


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Keep freed memory in the process while any thread is within such a block."""
    _change_holders(1)
    try:
        yield
    finally:
        _change_holders(-1)


def _change_holders(change: int) -> None:
    global _holders
    with _lock:
        before, _holders = _holders, _holders + change
        if _libc is None or (before > 0) == (_holders > 0):
            return
        _keep(2**31 - 1 if _holders else 64 * MIB)
        if not _holders:
            _libc.malloc_trim(0)


def keep_some_freed_memory() -> None:
    """Keep up to 64 MiB of freed memory in the process from now on, because each forward pass needs it again."""
    with _lock:
        if not _holders:
            _keep(64 * MIB)


def _keep(num_bytes: int) -> None:
    """Keep up to ``num_bytes`` of freed memory at the end of the heap, and allocate blocks of up to 32 MiB there."""
    if _libc is not None:
        _libc.mallopt(MMAP_THRESHOLD, 32 * MIB)
        _libc.mallopt(TRIM_THRESHOLD, num_bytes)


def _glibc() -> Any:
    """The C library if it is glibc, else None."""
    try:
        library = ctypes.CDLL(None)
        return library if hasattr(library, "mallopt") and hasattr(library, "gnu_get_libc_version") else None
    except (OSError, TypeError):
        return None


_libc, _lock, _holders = _glibc(), threading.Lock(), 0
