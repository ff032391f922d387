"""Validation chooses and test reports; diverged runs count as trials and are never chosen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from polytask.evaluation.model_selection import choose, mean_over_tasks, over_seeds, sweep
from polytask.methods import Houlsby
from polytask.paper.ledger import Entry
from polytask.paper.selection import runs_of
from polytask.training.result import Score
from tests.entries import entry


def seeds(lr: float, validation: list[float | None], test: list[float | None] | None = None) -> list[Entry]:
    pairs = zip(validation, test or validation, strict=True)
    return [entry("CoLA", Houlsby(8), val, score, lr=lr, seed=seed) for seed, (val, score) in enumerate(pairs)]


def chosen(entries: list[Entry]) -> dict[str, Any]:
    """What validation chose of the only task, as a row; empty if it chose nothing."""
    rows = over_seeds(choose(runs_of(entries), "task"), "task").to_dict("records")
    return rows[0] if rows else {}


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=20))
@settings(max_examples=20, deadline=None)
def test_mean_and_standard_error_are_those_of_numpy_and_scipy(values: list[float]) -> None:
    (row,) = over_seeds(pd.DataFrame({"task": "a", "diverged": False, "test": values}), "task").to_dict("records")
    np.testing.assert_allclose(row["mean"], 100 * np.mean(values), atol=1e-10)
    np.testing.assert_allclose(row["sem"], 100 * scipy.stats.sem(values), atol=1e-10)
    assert (row["low"], row["high"], row["seeds"]) == (100 * min(values), 100 * max(values), len(values))


def test_one_seed_has_no_standard_error() -> None:
    assert np.isnan(chosen([entry("CoLA", Houlsby(8), 0.5, 0.25)])["sem"])


def test_the_setting_with_the_best_mean_validation_score_is_chosen_and_its_test_scores_are_told() -> None:
    row = chosen([*seeds(1e-3, [0.5, 0.7], [0.1, 0.2]), *seeds(3e-3, [0.9, 0.2], [0.8, 0.9])])
    assert (row["lr"], row["settings"], row["seeds"]) == (1e-3, 2, 2)
    assert row["mean"] == pytest.approx(15)


def test_no_test_score_changes_what_is_chosen() -> None:
    entries = [*seeds(1e-3, [0.5, 0.7]), *seeds(3e-3, [0.6, 0.7]), *seeds(1e-2, [0.4, 0.4])]

    def rate(tests: list[float]) -> float:
        scored = [
            replace(one, test=Score("matthews", score, 10), metrics={"accuracy": score}, also={})
            for one, score in zip(entries, tests, strict=True)
        ]
        return float(chosen(scored)["lr"])

    assert {rate([0.9, 0.9, 0, 0, 0, 0]), rate([0, 0, 0, 0, 1, 1]), rate([0.5] * 6)} == {3e-3}


def test_of_equal_validation_scores_the_first_setting_is_chosen() -> None:
    assert chosen([*seeds(3e-3, [0.1, 0.2]), *seeds(1e-3, [0.2, 0.1])])["lr"] == 3e-3


def test_a_setting_of_which_a_seed_diverged_is_never_chosen_and_counts() -> None:
    row = chosen([*seeds(1e-3, [0.1, 0.1]), *seeds(3e-3, [0.9, None])])
    assert (row["lr"], row["settings"]) == (1e-3, 2)
    assert chosen(seeds(3e-3, [0.9, None])) == {}
    assert chosen([]) == {}


def test_settings_are_compared_over_the_seeds_that_all_have() -> None:
    lucky = [one for one in seeds(3e-3, [0.5, 0.9]) if one.trial.seed == 1]
    row = chosen([*seeds(1e-3, [0.2, 0.95]), *lucky])
    assert row["lr"] == 1e-3, "with seed 1, which both have, it is better"


def test_settings_without_a_common_seed_are_compared_over_their_own() -> None:
    first, second = seeds(1e-3, [0.2, 0.9]), seeds(3e-3, [0.5, 0.1])
    assert chosen([first[0], second[1]])["lr"] == 1e-3
    assert chosen([first[1], second[0]])["lr"] == 1e-3


def test_each_group_has_its_own_choice() -> None:
    entries = [entry(task, Houlsby(8), val, 0.5, lr=lr) for task, lr, val in (("CoLA", 1e-3, 0.6), ("CoLA", 3e-3, 0.5))]
    entries += [entry(task, Houlsby(8), val, 0.5, lr=lr) for task, lr, val in (("RTE", 1e-3, 0.3), ("RTE", 3e-3, 0.4))]
    assert dict(choose(runs_of(entries), "task")[["task", "lr"]].to_numpy()) == {"CoLA": 1e-3, "RTE": 3e-3}


def test_a_sweep_varies_one_setting_alone() -> None:
    same = [entry("CoLA", Houlsby(64), 0.5, 0.5, lr=lr) for lr in (3e-4, 1e-4, 1e-3)]
    other = [entry("CoLA", Houlsby(8), 0.9, 0.9, lr=lr) for lr in (1e-3, 3e-3)]
    assert list(sweep(runs_of([*same, *other]), "lr").lr) == [1e-4, 3e-4, 1e-3]
    assert sweep(runs_of([*same[:1], *other[:1]]), "lr").empty
    spread = [entry("CoLA", Houlsby(64, init_std=std), 0.5, 0.5) for std in (1e-2, 1.0)]
    assert list(sweep(runs_of(spread), "init_std").init_std) == [1e-2, 1.0]


def test_the_standard_error_of_a_mean_comes_of_those_of_its_tasks() -> None:
    cells = pd.DataFrame({"mean_of": ["a", "b"], "score": [50.0, 70.0], "sem": [3.0, 4.0]})
    assert mean_over_tasks(cells) == pytest.approx((60.0, (3.0**2 + 4.0**2) ** 0.5 / 2))
    unknown = pd.concat([cells, pd.DataFrame({"mean_of": ["c"], "score": [70.0], "sem": [np.nan]})])
    assert mean_over_tasks(unknown) == (pytest.approx(190 / 3), None)
    assert mean_over_tasks(cells.iloc[:0]) is None
    assert mean_over_tasks(unknown.assign(score=[50.0, 70.0, np.nan])) is None
