"""An estimate has the counts of the run, and changes nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from polytask.backbones.backbone import Backbone
from polytask.data.task import Task
from polytask.methods import FullFineTuning, Houlsby, Method
from polytask.training.estimate import estimate
from polytask.training.log import logging
from polytask.training.loop import train
from polytask.training.recipe import Recipe

RECIPE = Recipe(Houlsby(4), lr=1e-2, epochs=2, batch_size=8)


@pytest.mark.parametrize("method", [Houlsby(4), FullFineTuning()])
def test_counts_are_those_of_the_run_and_the_backbone_keeps_every_bit(
    method: Method, tiny_backbone: Backbone, tiny_task: Task
) -> None:
    before = {name: tensor.clone() for name, tensor in tiny_backbone.model.state_dict().items()}
    recipe = replace(RECIPE, method=method)
    expected, untouched = train(tiny_backbone, tiny_task, recipe)
    said = estimate(tiny_backbone, tiny_task, recipe)
    adapter, result = train(tiny_backbone, tiny_task, recipe)
    assert not tiny_backbone.model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in tiny_backbone.model.state_dict().items())
    assert adapter.tensor_digest == expected.tensor_digest
    assert (said.rows, said.texts, said.epochs, said.truncated) == (48, 48, 2, 0)
    assert said.steps == 2 * 6
    assert said.tokens == 2 * said.tokens_an_epoch == result.train["tokens"]
    assert said.parameters == result.parameters == untouched.parameters
    assert said.recipe == result.recipe
    assert said.seconds > 0


def test_memory_is_that_of_weights_optimizer_and_the_largest_batch(tiny_backbone: Backbone, tiny_task: Task) -> None:
    small = estimate(tiny_backbone, tiny_task, replace(RECIPE, batch_size=4)).memory_bytes
    large = estimate(tiny_backbone, tiny_task, replace(RECIPE, batch_size=16)).memory_bytes
    assert small["backbone"] == large["backbone"] == 4 * tiny_backbone.num_parameters
    assert small["training"] == large["training"]
    assert 2 * small["step"] < large["step"] < 6 * small["step"]
    assert large["total"] == large["backbone"] + large["training"] + large["step"]
    assert large["free"] > 0


def test_the_prefix_cache_is_not_changed(tiny_backbone: Backbone, tiny_task: Task) -> None:
    recipe = replace(RECIPE, method=Houlsby(4, layers=1))
    train(tiny_backbone, tiny_task, recipe)
    used = tiny_backbone.prefixes.used_bytes
    assert used > 0
    assert estimate(tiny_backbone, tiny_task, recipe).seconds > 0
    assert tiny_backbone.prefixes.used_bytes == used


def test_defaults_are_chosen(tiny_backbone: Backbone, tiny_task: Task) -> None:
    said = estimate(tiny_backbone, tiny_task, Recipe(Houlsby(4), batch_size=24, max_length=4))
    assert said.recipe["lr"] == 1e-3
    assert (said.epochs, said.steps, said.recipe["head_start"]) == (15, 30, "probe")  # 48 rows are few
    assert said.truncated == 40
    assert said.to_json()["memory_bytes"] == said.memory_bytes


def test_a_run_is_logged_for_tensorboard(tiny_backbone: Backbone, tiny_task: Task, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with logging(tmp_path / "log") as progress:
        _, result = train(tiny_backbone, tiny_task, RECIPE, progress=progress)
    logged = EventAccumulator(str(tmp_path / "log" / "mood"))
    logged.Reload()
    assert set(logged.Tags()["scalars"]) == {
        "train/loss",
        "train/learning_rate",
        "train/tokens_per_second",
        "validation/accuracy",
    }
    rates = [event.value for event in logged.Scalars("train/learning_rate")]
    assert len(rates) == 12
    assert max(rates) == pytest.approx(1e-2)
    scores = [(event.step, event.value) for event in logged.Scalars("validation/accuracy")]
    assert scores == [(int(epoch["epoch"]), pytest.approx(epoch["score"])) for epoch in result.history]
