"""Messages of a job are limited in their rate, those of different jobs independently."""

from __future__ import annotations

from polytask.launch.throttle import Throttle


def test_each_job_sends_its_first_message_and_no_other_within_the_interval() -> None:
    throttle = Throttle(interval_s=3600.0)
    assert [throttle.is_due(job) for job in ("a", "b", "a", "b", "c")] == [True, True, False, False, True]


def test_without_an_interval_all_messages_are_sent() -> None:
    throttle = Throttle(interval_s=0.0)
    assert [throttle.is_due("a") for _ in range(3)] == [True, True, True]
