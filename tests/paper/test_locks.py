"""A trial's lock is held by one process at a time and freed when that ends."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from polytask.errors import PolytaskError
from polytask.paper.locks import TrialLocks

fcntl = pytest.importorskip("fcntl")

HOLD = (
    "import sys, time; from polytask.paper.locks import TrialLocks; c = TrialLocks(sys.argv[1]); "
    "print(c.acquire('a'), flush=True); time.sleep(600)"
)


def test_a_claim_holds_until_it_is_released(tmp_path: Path) -> None:
    one, other = TrialLocks(tmp_path), TrialLocks(tmp_path)
    assert one.acquire("a")
    assert not other.acquire("a")
    assert other.acquire("b")
    one.release("a")
    assert other.acquire("a")
    other.release_all()
    assert list(tmp_path.iterdir()) == []
    one.release("a")


def test_the_lock_of_a_killed_process_is_free_at_once(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "True\n"
    ours = TrialLocks(tmp_path)
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
    one, other = TrialLocks(tmp_path), TrialLocks(tmp_path)
    assert one.acquire("a")
    flock = fcntl.flock

    def release_first(descriptor: int, operation: int) -> None:
        one.release_all()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", release_first)
    assert other.acquire("a")
    monkeypatch.undo()
    assert not TrialLocks(tmp_path).acquire("a")


def test_a_file_system_without_locks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(PolytaskError, match="the file system has no locks"):
        TrialLocks(tmp_path).acquire("a")
