"""Threads get a fair lock in the order in which they asked for it."""

from __future__ import annotations

import copy
import pickle
import threading

from polytask.fair_lock import FairLock


def waiting(lock: FairLock, number: int) -> None:
    """Return once ``number`` threads wait for the lock."""
    while len(lock._waiting) < number:
        pass


def test_threads_get_the_lock_in_the_order_in_which_they_asked() -> None:
    lock, order = FairLock(), []

    def ask(name: int) -> None:
        with lock:
            order.append(name)

    threads = []
    with lock:
        for name in range(5):
            threads.append(threading.Thread(target=ask, args=(name,)))
            threads[-1].start()
            waiting(lock, name + 1)
    for thread in threads:
        thread.join()
    assert order == list(range(5))


def test_a_thread_that_releases_it_and_asks_again_comes_after_one_that_waits() -> None:
    lock, order = FairLock(), []

    def ask() -> None:
        with lock:
            order.append("other")

    other = threading.Thread(target=ask)
    with lock:
        other.start()
        waiting(lock, 1)
    with lock:
        order.append("again")
    other.join()
    assert order == ["other", "again"]


def test_its_owner_may_take_it_again() -> None:
    lock = FairLock()
    with lock, lock:
        pass
    assert lock._owner is None


def test_a_thread_that_gives_up_waiting_is_left_out() -> None:
    lock = FairLock()
    turn = threading.Lock()
    turn.acquire()
    with lock:
        lock._waiting.append((0, turn))
        lock._stop_waiting(0, turn)
    assert lock._owner is None
    with lock:
        assert lock._owner == threading.get_ident()


def test_a_copy_is_a_new_lock_that_nobody_holds() -> None:
    lock = FairLock()
    with lock:
        for other in (copy.deepcopy(lock), pickle.loads(pickle.dumps(lock))):
            assert other._owner is None
