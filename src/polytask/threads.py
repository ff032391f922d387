"""Threads on a CPU: as many as there are processors to use, and waiting threads that soon give way.

OpenMP threads that wait for the next product spin. Alone on a machine that saves the time to wake up; beside other work
it takes the processor from the process that would use it, and two trainings at once take longer than one after the
other (``benchmarks/beside.py`` measures it). libgomp, which torch uses on Linux, reads how long to spin from the
environment when it is loaded, so it has to be set before torch is imported.
"""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping
from pathlib import Path

SPIN_COUNT = 2000
"""Turns that a waiting thread spins before it sleeps; libgomp's own default is 300,000.

More turns gain nothing that could be measured alone, and from 10,000 on two trainings at once take longer than one
after the other (docs/log.md).
"""

_SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
_QUOTAS = (("cpu.max", None), ("cpu.cfs_quota_us", "cpu.cfs_period_us"))
"""The files of a control group of version 2 (quota and period in one) and of version 1."""


def limit_spinning(environment: MutableMapping[str, str] = os.environ) -> bool:
    """Let OpenMP's waiting threads sleep soon; whether it was set.

    Nothing is set where torch is loaded already, which is too late, or where the user has chosen how threads wait.
    Child processes inherit the setting.
    """
    if "torch" in sys.modules or any(name in environment for name in _SETTINGS):
        return False
    environment["GOMP_SPINCOUNT"] = str(SPIN_COUNT)
    return True


def limit_threads() -> None:
    """Let torch use no more threads than this process may use processors, unless OMP_NUM_THREADS says how many."""
    import torch

    if "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() > num_processors():
        torch.set_num_threads(num_processors())


def num_processors(root: Path = Path("/sys/fs/cgroup")) -> int:
    """The processors that this process may use: its affinity, and the quota of its container (cgroup 1 and 2)."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [quota for folder in (root, root / "cpu") if (quota := _quota(folder)) is not None]
    return max(1, min([affinity, *quotas]))


def _quota(group: Path) -> int | None:
    """The processors that a control group's quota amounts to, rounded up; None where there is no quota."""
    for quota_file, period_file in _QUOTAS:
        try:
            fields = (group / quota_file).read_text(encoding="utf-8").split()
            if period_file is not None:
                fields += (group / period_file).read_text(encoding="utf-8").split()
            quota, period = int(fields[0]), int(fields[1])
        except (OSError, ValueError, IndexError):  # no such file, or "max": no quota
            continue
        if quota > 0 and period > 0:
            return -(-quota // period)
    return None
