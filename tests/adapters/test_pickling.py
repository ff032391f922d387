"""Adapters, recipes, results, predictions, tasks and entries can be pickled, also by joblib."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import joblib
import pytest

import polytask as pt
from polytask.adapters.adapter import Adapter
from polytask.backbones.backbone import Backbone
from polytask.data.task import Task
from polytask.errors import AdapterError
from polytask.methods import Houlsby
from tests.samples import METHODS, created, same


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_an_adapter_pickles_to_itself(method: pt.Method) -> None:
    adapter = created(method)
    again = pickle.loads(pickle.dumps(adapter))
    assert same(again, adapter)
    assert again.header == adapter.header


def test_a_pickled_adapter_that_was_altered_is_refused() -> None:
    adapter = created(Houlsby(3))
    content = pickle.dumps(adapter)
    value = adapter.tensors["head.bias"].numpy().tobytes()
    assert content.count(value) == 1
    with pytest.raises(AdapterError, match="digest"):
        pickle.loads(content.replace(value, b"\x01\x00\x00\x3f" * (len(value) // 4)))


def test_recipes_results_predictions_tasks_and_entries_pickle(
    tiny_backbone: Backbone, tiny_task: Task, tmp_path: Path
) -> None:
    recipe = pt.Recipe(Houlsby(2), epochs=1)
    adapter, result = pt.train(tiny_backbone, tiny_task, recipe)
    store = pt.Store(tmp_path)
    store.put(adapter)
    predictions = pt.MultiTask(tiny_backbone, store).predict(["good film"], "mood")
    for value in (recipe, result, predictions, tiny_task, store.entry("mood")):
        file = io.BytesIO()
        joblib.dump(value, file)
        file.seek(0)
        assert joblib.load(file) == value
        assert pickle.loads(pickle.dumps(value)) == value


def test_adapters_cross_processes() -> None:
    adapters = [created(Houlsby(3), seed=seed) for seed in range(2)]
    digests = joblib.Parallel(n_jobs=2)(joblib.delayed(digest_of)(adapter) for adapter in adapters)
    assert digests == [adapter.header.digest for adapter in adapters]


def digest_of(adapter: Adapter) -> str:
    return adapter.header.digest
