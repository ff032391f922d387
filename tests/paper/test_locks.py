"""A claim is held by one at a time and dies with its process."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from polytask.errors import PolytaskError
from polytask.paper.locks import Claims

fcntl = pytest.importorskip("fcntl")

HOLD = (
    "import sys, time; from polytask.paper.locks import Claims; c = Claims(sys.argv[1]); "
    "print(c.take('a'), flush=True); time.sleep(600)"
)


def test_a_claim_holds_until_it_is_released(tmp_path: Path) -> None:
    one, other = Claims(tmp_path), Claims(tmp_path)
    assert one.take("a")
    assert not other.take("a")
    assert other.take("b")
    one.release("a")
    assert other.take("a")
    other.release_all()
    assert list(tmp_path.iterdir()) == []
    one.release("a")


def test_the_claim_of_a_killed_process_is_free_at_once(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "True\n"
    ours = Claims(tmp_path)
    assert not ours.take("a")
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    assert (tmp_path / "a.claim").exists()
    assert ours.take("a")


def test_a_lock_on_a_file_that_was_removed_meanwhile_is_no_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The holder releases its claim after the other has opened the file and before it locks it."""
    one, other = Claims(tmp_path), Claims(tmp_path)
    assert one.take("a")
    flock = fcntl.flock

    def release_first(descriptor: int, operation: int) -> None:
        one.release_all()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", release_first)
    assert other.take("a")
    monkeypatch.undo()
    assert not Claims(tmp_path).take("a")


def test_a_file_system_without_locks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(PolytaskError, match="the file system has no locks"):
        Claims(tmp_path).take("a")
