"""Two processes never train into one checkpoint."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import polytask
from polytask.errors import CheckpointError
from polytask.file_lock import exclusive_run

HOLDING = """
import sys, time
from pathlib import Path
from polytask.file_lock import exclusive_run
with exclusive_run(Path(sys.argv[1]), "training", "leave it"):
    print("held", flush=True)
    time.sleep(600)
"""


def holder(path: Path) -> subprocess.Popen[str]:
    """Another process that holds the lock."""
    command = [sys.executable, "-c", HOLDING, str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(polytask.__file__).parents[1])
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_process_is_refused_until_the_first_ends_even_if_it_is_killed(tmp_path: Path) -> None:
    process = holder(tmp_path / "run.ckpt")
    with (
        pytest.raises(
            CheckpointError,
            match=f"training 'x' is already running in process {process.pid}. Wait for it, or leave it",
        ),
        exclusive_run(tmp_path / "run.ckpt", "training 'x'", "leave it"),
    ):
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with exclusive_run(tmp_path / "run.ckpt", "training 'x'", "leave it"):
        assert [path.name for path in tmp_path.iterdir()] == [".run.ckpt.lock"]
    assert list(tmp_path.iterdir()) == []


def test_locks_of_different_files_are_independent(tmp_path: Path) -> None:
    with exclusive_run(tmp_path / "a.ckpt", "a", ""), exclusive_run(tmp_path / "b.ckpt", "b", ""):
        pass


def test_folders_created_for_the_lock_are_removed_unless_something_was_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="refused"), exclusive_run(tmp_path / "store" / "runs" / "x.ckpt", "x", ""):
        raise ValueError("refused")
    assert list(tmp_path.iterdir()) == []
    with exclusive_run(tmp_path / "store" / "runs" / "x.ckpt", "x", ""):
        (tmp_path / "store" / "kept").write_text("")
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["kept"]
