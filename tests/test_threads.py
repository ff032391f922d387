"""How threads wait is set before torch is loaded and never against the user; quotas of containers are obeyed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from polytask.threads import SPIN_COUNT, limit_spinning, num_processors

CODE = "import os, polytask, torch; print(os.environ.get('GOMP_SPINCOUNT'), os.environ.get('OMP_WAIT_POLICY'))"


def printed(code: str, **environment: str) -> str:
    own = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME")}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**own, **environment}, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_waiting_threads_soon_sleep_in_a_process_that_imports_polytask_first() -> None:
    assert printed(CODE) == f"{SPIN_COUNT} None"


@pytest.mark.parametrize("chosen", [{"OMP_WAIT_POLICY": "active"}, {"GOMP_SPINCOUNT": "7"}, {"KMP_BLOCKTIME": "0"}])
def test_what_the_user_chose_stays(chosen: dict[str, str]) -> None:
    expected = f"{chosen.get('GOMP_SPINCOUNT')} {chosen.get('OMP_WAIT_POLICY')}"
    assert printed(CODE, **chosen) == expected


def test_where_torch_is_loaded_already_nothing_is_set() -> None:
    assert printed(f"import torch; {CODE}") == "None None"
    assert "torch" not in sys.modules or not limit_spinning({})


@pytest.mark.parametrize(
    ("files", "processors"),
    [
        ({"cpu.max": "100000 100000\n"}, 1),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu.max": "nonsense"}, None),
        ({}, None),
    ],
)
def test_a_quota_of_a_container_limits_the_processors(
    files: dict[str, str], processors: int | None, tmp_path: Path
) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    free = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    assert num_processors(tmp_path) == (free if processors is None else min(processors, free))
