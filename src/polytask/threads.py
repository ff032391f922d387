"""Limits CPU threads to the available processors, and lets waiting threads sleep soon.

OpenMP threads spin while they wait for the next product. Alone on a machine, this saves the time to wake up. Together
with other work, it takes the processor from the process that needs it: two training runs at once take longer than one
after the other (``benchmarks/beside.py`` measures it). libgomp, which torch uses on Linux, reads the spin count from
the environment when it is loaded, so it must be set before torch is imported.
"""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping
from pathlib import Path

SPIN_COUNT = 2000
"""How many times a waiting thread spins before it sleeps; libgomp's default is 300,000.

Higher counts gain nothing measurable for a training alone, and from 10,000 on two trainings at once take longer than
one after the other (docs/log.md).
"""

_SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
_QUOTAS = (("cpu.max", None), ("cpu.cfs_quota_us", "cpu.cfs_period_us"))
"""The files of a control group of version 2 (quota and period in one) and of version 1."""


def limit_spinning(environment: MutableMapping[str, str] = os.environ) -> bool:
    """Limit how long OpenMP's waiting threads spin. Child processes inherit the setting.

    Returns:
        Whether it was set. It is not set if torch is loaded already, which is too late, or if the user has chosen how
        threads wait.
    """
    if "torch" in sys.modules or any(name in environment for name in _SETTINGS):
        return False
    environment["GOMP_SPINCOUNT"] = str(SPIN_COUNT)
    return True


def limit_threads() -> None:
    """Limit torch's threads to the number of processors of this process, unless OMP_NUM_THREADS is set."""
    import torch

    if "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() > num_processors():
        torch.set_num_threads(num_processors())


def num_processors(root: Path = Path("/sys/fs/cgroup")) -> int:
    """The number of processors that this process may use, by affinity and the container's quota (cgroup 1 and 2)."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [quota for folder in (root, root / "cpu") if (quota := _quota(folder)) is not None]
    return max(1, min([affinity, *quotas]))


def _quota(group: Path) -> int | None:
    """The quota of a control group in processors, rounded up; None without a quota."""
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
