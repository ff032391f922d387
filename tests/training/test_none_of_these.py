"""None of these, from training to the answer; goals and detectors in every way to train."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from polytask.adapters.adapter import Adapter
from polytask.adapters.attach import Attached
from polytask.adapters.module import LoadedAdapter
from polytask.adapters.store import Store
from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.cli.card import facts
from polytask.data.encoding import encode
from polytask.data.task import Rows, Task
from polytask.evaluation.none_of_these import DetectNone
from polytask.evaluation.thresholds import Goal
from polytask.inference.predict import MultiTask
from polytask.inference.scoring import scores_of
from polytask.inference.vectors import vectors_of
from polytask.methods import Houlsby, Method, Probe, TopLayers
from polytask.training.fused import train_many
from polytask.training.grid import grid
from polytask.training.loop import train
from polytask.training.recipe import Recipe
from polytask.training.result import Result
from polytask.training.sweep import sweep
from polytask.training.tune import tune
from tests.conftest import BAD, GOOD

ODD = ("see you at five tomorrow", "market share price", "team game score goal", "call now")
RECIPE = Recipe(Houlsby(4), lr=1e-2, epochs=1, batch_size=24)


def task_of(*, with_odd: bool = False) -> Task:
    """Two classes, and a third of texts that are unlike both."""
    texts = [*GOOD, *BAD, *(ODD if with_odd else ())] * 4
    labels = [1] * len(GOOD) + [0] * len(BAD) + [2] * (len(ODD) if with_odd else 0)
    rows = Rows(texts, targets=labels * 4)
    return Task("mood", "classification", ("bad", "good", *(["odd"] if with_odd else [])), "accuracy", rows, rows, rows)


@pytest.mark.parametrize("method", [Houlsby(4), Probe(), TopLayers(1)], ids=lambda own: own.name)
def test_a_stored_detector_answers_as_it_was_fitted(method: Method, tiny_backbone: Backbone, tmp_path: Path) -> None:
    recipe = Recipe(method, lr=1e-3, epochs=1, batch_size=24)
    adapter, result = train(tiny_backbone, task_of(with_odd=True), recipe, none=DetectNone(0.1, "odd"))
    header = adapter.header
    assert (header.to_object()["format"], header.none and header.none["rows"]) == (2, 48)
    assert Adapter.from_bytes(adapter.to_bytes()).header == header
    assert Result.from_json(result.to_json()) == result
    store = Store(tmp_path)
    entry = store.put(adapter)
    multi = MultiTask(tiny_backbone, store)
    texts = [*GOOD, *BAD, *ODD]
    together = multi.predict(texts, "mood")
    assert [own.none for own in together] == [multi.predict([text], "mood")[0].none for text in texts]
    assert sum(own.none for own in together[: len(GOOD) + len(BAD)]) <= 1
    unlike = next(own for own in together if own.none)
    assert unlike.to_json() | {"probs": None} == {
        "task": "mood",
        "label": None,
        "abstained": True,
        "none": True,
        "reason": "none of these",
        "probs": None,
    }
    assert all(own.label for own in multi.predict(texts, "mood", abstain=False))
    assert all(own.label for own in multi.predict(texts, "mood", threshold=0.0))
    assert {value for name, value in facts(entry) if name == "none of these"} >= {
        f"{(header.none or {})['score']}, false-alarm rate 0.1, chosen on 48 validation rows"
    }


@pytest.mark.parametrize("method", [Houlsby(4), Probe()], ids=lambda own: own.name)
def test_with_late_pooling_a_detector_sees_what_the_last_linear_layer_of_the_head_sees(
    method: Method, tmp_path: Path, folder_of: Callable[[str], Path]
) -> None:
    backbone = load_backbone(folder_of("eurobert"), device="cpu", dtype="float32")
    assert backbone.pooling == "late"
    adapter, _ = train(backbone, task_of(), Recipe(method, lr=1e-3, epochs=1, batch_size=24), none=DetectNone(0.1))
    store = Store(tmp_path)
    store.put(adapter)
    live = LoadedAdapter.from_adapter(backbone, adapter)
    assert live.head.is_late == (method != Probe())
    attached = Attached.of(backbone)
    if live.deltas:
        attached.add("mood", live.deltas)
    encoded = encode(backbone.tokenizer, Rows([*GOOD, *BAD, *ODD]), 16)
    together = scores_of(backbone, attached, {"mood": live}, encoded, ["mood"] * len(encoded))
    for row, scores in enumerate(together):
        (vectors,) = vectors_of(backbone, encoded.take([row]), (attached, "mood", live))
        torch.testing.assert_close(scores[:-1], live.head(vectors[None])[0].softmax(-1), rtol=0, atol=1e-5)
        torch.testing.assert_close(scores[-1:], live.familiarity(vectors[None]), rtol=1e-4, atol=1e-4)


def test_without_being_asked_a_file_is_as_before_and_a_folded_one_has_no_detector(tiny_backbone: Backbone) -> None:
    plain, result = train(tiny_backbone, task_of(), RECIPE)
    adapter, _ = train(tiny_backbone, task_of(), RECIPE, none=DetectNone(0.1))
    assert "none" not in plain.header.to_object()
    assert "none" not in result.to_json()
    folded = adapter.folded()
    assert folded.header.none is None
    assert folded.tensors.keys() == plain.tensors.keys()


def test_examples_choose_the_detector_and_are_no_class(tiny_backbone: Backbone) -> None:
    adapter, result = train(tiny_backbone, task_of(with_odd=True), RECIPE, none=DetectNone(0.1, "odd"))
    assert adapter.header.head.labels == ("bad", "good")
    said = result.none or {}
    assert said["auroc"] > 0.9
    assert said["found"][0] > 0.7
    assert result.test is not None
    assert result.test.rows == 48


def test_too_few_validation_rows_are_said(tiny_backbone: Backbone, tiny_task: Task) -> None:
    adapter, result = train(tiny_backbone, tiny_task, RECIPE, none=DetectNone(0.05))
    assert adapter.header.none is None
    assert "needs 19 validation rows" in (result.none or {})["notes"][0]


WANTED: dict[str, Any] = {"goal": Goal("coverage", 0.5), "none": DetectNone(0.1), "probe": True}


def check(adapter: Adapter, result: Result) -> None:
    assert (adapter.header.thresholds or {})["goal"] == "coverage"
    assert adapter.header.none is not None
    assert "score" in (result.probe or {})
    assert adapter.header.result["thresholds"] == result.thresholds


def test_several_tasks_at_once_get_what_is_wanted(tiny_backbone: Backbone) -> None:
    outcomes = train_many(tiny_backbone, [(task_of(), RECIPE)], budget_tokens=1000, **WANTED)
    for outcome in outcomes.values():
        assert isinstance(outcome, tuple)
        check(*outcome)


def test_the_best_of_a_search_gets_what_is_wanted(tiny_backbone: Backbone, tmp_path: Path) -> None:
    tuned = tune(tiny_backbone, task_of(), RECIPE, size=(2, 4), budget_tokens=1000, **WANTED)
    check(tuned.adapter, tuned.result)
    plain = sweep(tiny_backbone, task_of(), grid(RECIPE, seeds=1), folder=tmp_path, budget_tokens=1000)
    swept = sweep(tiny_backbone, task_of(), grid(RECIPE, seeds=1), folder=tmp_path, budget_tokens=1000, **WANTED)
    assert plain.best.header.thresholds is None
    assert swept.best_run.result is not None
    check(swept.best, swept.best_run.result)
    assert swept.best.tensors["head.weight"].equal(plain.best.tensors["head.weight"])
