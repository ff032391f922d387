"""Two methods are compared on the seeds that both have finished, with the settings that validation chose."""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd
import pytest

from polytask.evaluation.paired import MIN_TASKS, Pairing

TASKS = tuple("abcdef")


def pairing(lacking: Collection[str] = ()) -> Pairing:
    """``ours`` and ``theirs`` with two settings and two seeds on six tasks, without the trials ``lacking``.

    The better setting by validation is setting 1, in which ours are behind by the number of the task and the seed.
    """
    rows = [
        {
            "suite": "one" if task < "d" else "two",
            "task": task,
            "method": method,
            "seed": seed,
            "trial": f"{task} {method} {setting} {seed}",
            "setting": 2 * at + setting,
            "validation": 0.5 + 0.1 * setting,
            "test": 0.5,
            "diverged": False,
            "score": 90.0 if setting == 0 else 50.0 - (at + seed if method == "ours" else 0),
        }
        for at, task in enumerate(TASKS)
        for method in ("ours", "theirs")
        for setting in (0, 1)
        for seed in (0, 1)
    ]
    table = pd.DataFrame(rows)
    planned = table[["suite", "task", "method", "seed", "trial"]]
    return Pairing(planned, table[~table.trial.isin(lacking)])


def test_differences_are_by_seed_and_of_the_chosen_setting() -> None:
    found = pairing().compare("ours", "theirs", ("one", "two"))
    assert [own.by_seed for own in found.differences] == [[-at, -at - 1] for at in range(6)]
    assert found.mean == pytest.approx(-3.0)
    assert found.is_complete
    assert found.finished_in_words == "6 of 6 tasks, and of these 12 of 12 seeds"
    low, high = found.interval or (0.0, 0.0)
    assert low < found.mean < high
    assert found.in_words.startswith("−3.00 points (95% interval −")


def test_a_seed_counts_when_all_settings_of_both_methods_have_run() -> None:
    half = pairing(lacking=("a ours 0 1", "b theirs 0 0", "b theirs 1 1"))
    found = half.compare("ours", "theirs", ("one", "two"))
    by_task = {own.task: own for own in found.differences}
    assert by_task["a"].by_seed == [0.0], "seed 1 lacks a setting"
    assert by_task["a"].interval is None
    assert found.unfinished == ("b",)
    assert not found.is_complete
    assert half.progress("b", "theirs") == (2, 4)


def test_few_tasks_have_no_interval_and_other_suites_do_not_count() -> None:
    found = pairing().compare("ours", "theirs", ("one",))
    assert len(found.differences) == 3 < MIN_TASKS
    assert found.interval is None
    assert pairing().compare("ours", "nobody", ("one",)).num_tasks == 0
