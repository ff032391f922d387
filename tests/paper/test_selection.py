"""Entries become runs of one backbone on one set of rows; a sweep varies one setting."""

from __future__ import annotations

from dataclasses import replace

import pytest

from polytask.errors import PolytaskError, UnknownName
from polytask.methods import FullFineTuning, Houlsby, LayerNormOnly, LoRA, Parallel, TopLayers, described
from polytask.paper.selection import family, of_one_backbone, on_one_data, runs_of
from tests.entries import entry


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
