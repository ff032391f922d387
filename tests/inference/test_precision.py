"""A detector that rejects nearly everything in another precision than its own is reported."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import pytest

from polytask.adapters.store import Store
from polytask.backbones.backbone import Backbone
from polytask.data.task import Rows, Task
from polytask.errors import PolytaskWarning
from polytask.evaluation.none_of_these import DetectNone
from polytask.inference.predict import MultiTask
from polytask.methods import Probe
from polytask.training.loop import train
from polytask.training.recipe import Recipe
from tests.conftest import BAD, GOOD


def test_texts_that_are_all_none_of_these_in_another_precision_are_reported(
    tiny_backbone: Backbone, tmp_path: Path
) -> None:
    rows = Rows([*GOOD, *BAD] * 4, targets=([1] * len(GOOD) + [0] * len(BAD)) * 4)
    task = Task("mood", "classification", ("bad", "good"), "accuracy", rows, rows)
    adapter, _ = train(tiny_backbone, task, Recipe(Probe()), none=DetectNone(0.1))
    store = Store(tmp_path)
    store.put(adapter)
    multi = MultiTask(tiny_backbone, store)
    loaded = multi.adapters[multi.load("mood")]
    assert loaded.trained_dtype == "float32"
    assert loaded.decision.none is not None
    moved = replace(loaded.decision.none, threshold=1e30)
    texts = [*GOOD, *BAD] * 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        multi.predict(texts, "mood")
        loaded.decision = replace(loaded.decision, none=moved)
        multi.predict(texts, "mood")  # all are none of these, in the precision of the training
        loaded.trained_dtype = "bfloat16"
        multi.predict(texts[:10], "mood")  # ten texts say nothing
        multi.predict(texts, "mood", abstain=False)
    with pytest.warns(
        PolytaskWarning, match=r"texts are none of these to mood@1, .* fitted in bfloat16 and answers in"
    ):
        multi.predict(texts, "mood")
