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

from polytask.errors import PolytaskError, UnknownName
from polytask.methods import FullFineTuning, Houlsby, LayerNormOnly, LoRA, Parallel, TopLayers, described
from polytask.paper.ledger import Entry
from polytask.paper.selection import choose, family, of_one_backbone, on_one_data, over_seeds, runs_of, sweep
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


def test_a_trial_that_stands_twice_counts_once() -> None:
    ablated = entry("CoLA", Houlsby(8), 0.5, 0.5, measured={"ablation": {}})
    assert list(runs_of([entry("CoLA", Houlsby(8), 0.5, 0.5), ablated]).entry) == [ablated]


@pytest.mark.parametrize(
    ("method", "name"),
    [
        (Houlsby(1), "adapters"),
        (Houlsby(8, activation="gelu_tanh"), "adapters"),
        (Houlsby(8, activation="tanh"), "other"),
        (Houlsby(8, init_std=1.0), "other"),
        (Houlsby(8, layers=1), "other"),
        (Parallel(8), "other"),
        (LoRA(8), "other"),
        (FullFineTuning(), "full"),
        (TopLayers(2), "top"),
        (LayerNormOnly(), "layernorm"),
    ],
)
def test_only_the_plain_adapter_is_the_papers(method: Houlsby, name: str) -> None:
    assert family(described(method)) == name


def test_a_sweep_varies_one_setting_alone() -> None:
    same = [entry("CoLA", Houlsby(64), 0.5, 0.5, lr=lr) for lr in (3e-4, 1e-4, 1e-3)]
    other = [entry("CoLA", Houlsby(8), 0.9, 0.9, lr=lr) for lr in (1e-3, 3e-3)]
    assert list(sweep(runs_of([*same, *other]), "lr").lr) == [1e-4, 3e-4, 1e-3]
    assert sweep(runs_of([*same[:1], *other[:1]]), "lr").empty
    spread = [entry("CoLA", Houlsby(64, init_std=std), 0.5, 0.5) for std in (1e-2, 1.0)]
    assert list(sweep(runs_of(spread), "init_std").init_std) == [1e-2, 1.0]


def test_two_backbones_do_not_stand_in_one_table() -> None:
    ours, words = entry(), entry("sms_spam", 10.0)
    other = replace(ours, backbone={**ours.backbone, "name": "bert", "fingerprint": "ab"})
    assert of_one_backbone([ours, words]) == [ours, words]
    assert of_one_backbone([ours, other, words], "bert") == [other, words]
    with pytest.raises(PolytaskError, match=r"minilm \(1 entries\), bert \(1 entries\). Choose one with --backbone"):
        of_one_backbone([ours, other])
    with pytest.raises(UnknownName, match="Did you mean 'bert'"):
        of_one_backbone([ours, other], "brt")
    changed = replace(ours, backbone={**ours.backbone, "fingerprint": "ab"})
    with pytest.raises(PolytaskError, match="2 backbones by the name minilm, with different weights"):
        of_one_backbone([ours, changed])


def test_scores_on_other_rows_of_the_same_task_are_left_out_and_said() -> None:
    whole = [entry("CoLA", lr=lr) for lr in (1e-3, 3e-3)]
    sample = replace(whole[0], data={**whole[0].data, "digest": "other"})
    kept, remarks = on_one_data([sample, *whole])
    assert kept == whole
    assert remarks == ["CoLA: 1 entries on other rows than the rest are left out"]
