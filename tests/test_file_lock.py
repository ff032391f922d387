"""Two processes never train into one checkpoint, and never run one trial."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import polytask
from polytask.errors import CheckpointError, PolytaskError
from polytask.file_lock import KeyLocks, exclusive_run

fcntl = pytest.importorskip("fcntl")

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


# -- locks on keys -----------------------------------------------------------------------------------------------------

HOLDING_A_KEY = (
    "import sys, time; from polytask.file_lock import KeyLocks; c = KeyLocks(sys.argv[1]); "
    "print(c.acquire('a'), flush=True); time.sleep(600)"
)


def test_a_claim_holds_until_it_is_released(tmp_path: Path) -> None:
    one, other = KeyLocks(tmp_path), KeyLocks(tmp_path)
    assert one.acquire("a")
    assert not other.acquire("a")
    assert other.acquire("b")
    one.release("a")
    assert other.acquire("a")
    other.release_all()
    assert list(tmp_path.iterdir()) == []
    one.release("a")


def test_the_lock_of_a_killed_process_is_free_at_once(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDING_A_KEY, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "True\n"
    ours = KeyLocks(tmp_path)
    assert not ours.acquire("a")
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    assert (tmp_path / "a.claim").exists()
    assert ours.acquire("a")


def test_a_lock_on_a_file_that_was_removed_meanwhile_is_no_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The holder releases its claim after the other has opened the file and before it locks it."""
    one, other = KeyLocks(tmp_path), KeyLocks(tmp_path)
    assert one.acquire("a")
    flock = fcntl.flock

    def release_first(descriptor: int, operation: int) -> None:
        one.release_all()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", release_first)
    assert other.acquire("a")
    monkeypatch.undo()
    assert not KeyLocks(tmp_path).acquire("a")


def test_a_file_system_without_locks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(PolytaskError, match="the file system has no locks"):
        KeyLocks(tmp_path).acquire("a")
