"""Tuning chooses by validation, stops losers early, and its winner is an ordinary run."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.data.task import Rows, Task
from polytask.errors import CheckpointError, RecipeError
from polytask.methods import METHODS, Houlsby, LayerNormOnly, LoRA
from polytask.training.events import Step
from polytask.training.loop import train
from polytask.training.recipe import Recipe
from polytask.training.tune import recipes_to_try, rungs, tune

BASE = Recipe(Houlsby(8), epochs=4, batch_size=8)


def test_eight_settings_over_eight_epochs_are_halved_at_one_two_and_four() -> None:
    assert rungs(8, 8) == [(1, 4), (2, 2), (4, 1)]
    assert rungs(10, 6) == [(2, 3), (3, 2), (5, 1)]


def test_few_epochs_have_fewer_rungs_and_one_epoch_none() -> None:
    assert rungs(3, 8) == [(1, 4), (2, 2)]
    assert rungs(1, 8) == []
    assert rungs(5, 2) == [(3, 1)]


@pytest.mark.parametrize("num_settings", range(2, 12))
@pytest.mark.parametrize("num_epochs", [1, 2, 3, 7, 20])
def test_rungs_get_longer_and_at_least_one_setting_is_left(num_epochs: int, num_settings: int) -> None:
    ends, kept = (
        [end for end, _ in rungs(num_epochs, num_settings)],
        [num for _, num in rungs(num_epochs, num_settings)],
    )
    assert ends == sorted(set(ends))
    assert all(0 < end < num_epochs for end in ends)
    assert all(1 <= after <= -(-before // 2) for before, after in zip([num_settings, *kept], kept))


def test_by_default_four_rates_and_two_sizes_are_tried() -> None:
    assert list(recipes_to_try(Recipe(Houlsby(64)), 100, "classification")) == [
        *(f"lr {lr}, size 16" for lr in ("3e-4", "1e-3", "3e-3", "1e-2")),
        *(f"lr {lr}, size 64" for lr in ("3e-4", "1e-3", "3e-3", "1e-2")),
    ]
    assert list(recipes_to_try(Recipe(LoRA(8), lr=2e-3), 100, "classification")) == ["rank 2", "rank 8"]
    assert list(recipes_to_try(Recipe(LayerNormOnly()), 100, "classification")) == [
        "lr 9e-4",
        "lr 3e-3",
        "lr 9e-3",
        "lr 3e-2",
    ]
    assert list(recipes_to_try(BASE, 100, "classification", lr=(1e-4, 1e-5), size=(3,))) == ["lr 1e-4", "lr 1e-5"]


@pytest.mark.parametrize("name", [name for name in METHODS if name != "probe"])
def test_every_method_can_be_tuned(name: str) -> None:
    assert len(recipes_to_try(Recipe(METHODS[name]()), 100, "classification")) in (4, 8)


def test_the_winner_equals_training_alone_with_what_was_chosen(tiny_bert_folder: Path, tiny_task: Task) -> None:
    backbone = load_backbone(tiny_bert_folder, device="cpu", dtype="float64", pooling="mean")
    events: list[object] = []
    tuned = tune(backbone, tiny_task, BASE, lr=(1e-5, 1e-2), size=(3, 8), progress=events.append)
    assert tuned.recipe.lr == 1e-2
    adapter, result = train(backbone, tiny_task, tuned.recipe)
    for name, tensor in adapter.tensors.items():
        torch.testing.assert_close(tuned.adapter.tensors[name], tensor, rtol=1e-6, atol=1e-9)
    assert [h["score"] for h in tuned.result.history] == [h["score"] for h in result.history]
    assert [h["loss"] for h in tuned.result.history] == pytest.approx([h["loss"] for h in result.history], rel=1e-9)
    assert tuned.adapter.header.recipe == tuned.recipe.to_json()
    steps = [event.job for event in events if isinstance(event, Step)]
    assert sorted(trial.epochs for trial in tuned.trials) == [1, 1, 2, 4]
    assert {trial.name: trial.epochs * 6 for trial in tuned.trials} == {name: steps.count(name) for name in steps}


def test_the_choice_is_explained_in_one_sentence(tiny_backbone: Backbone, tiny_task: Task) -> None:
    tuned = tune(tiny_backbone, tiny_task, BASE, lr=(1e-2, 1e-5), size=(8,))
    first, second = tuned.trials
    assert (first.name, first.epochs, second.epochs) == ("lr 1e-2", 4, 2)
    assert tuned.why == (
        f"lr 1e-2: accuracy {first.score:.3f} on 12 validation rows; "
        f"the next best, lr 1e-5, had {second.score:.3f} after 2 of 4 epochs"
    )


def test_settings_that_diverge_lose(tiny_backbone: Backbone, tiny_task: Task) -> None:
    tuned = tune(tiny_backbone, tiny_task, BASE, lr=(1e30, 1e-2, 1e25), size=(8,))
    assert tuned.recipe.lr == 1e-2
    assert [trial.score is None for trial in tuned.trials] == [False, True, True]
    assert tuned.why.endswith("; 2 of 3 settings diverged")


def test_if_the_finalists_diverge_the_best_stopped_setting_continues(
    tiny_backbone: Backbone, tiny_task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    from polytask.training.tune import TuneJob

    plain = TuneJob.update

    def update(self: TuneJob, loss: torch.Tensor, rows: list[int]) -> None:
        plain(self, loss * float("nan") if self.epoch == 3 and self.recipe.lr == 1e-2 else loss, rows)

    monkeypatch.setattr(TuneJob, "update", update)
    tuned = tune(tiny_backbone, tiny_task, BASE, lr=(1e-2, 1e-3, 1e-5), size=(8,))
    alone, _ = train(tiny_backbone, tiny_task, tuned.recipe)
    assert tuned.recipe.lr in (1e-3, 1e-5)
    assert [h["epoch"] for h in tuned.result.history] == [1, 2, 3, 4]
    for name, tensor in alone.tensors.items():
        torch.testing.assert_close(tuned.adapter.tensors[name], tensor, rtol=1e-4, atol=1e-5)


def test_if_all_settings_diverge_it_is_an_error(tiny_backbone: Backbone, tiny_task: Task) -> None:
    with pytest.raises(RecipeError, match=r"all 2 settings diverged\. The first one: .* Lower the learning rate"):
        tune(tiny_backbone, tiny_task, BASE, lr=(1e30, 1e25), size=(8,))


@pytest.mark.parametrize("num_steps", [9, 30, 50])
def test_resuming_an_interrupted_tuning_gives_the_same_result(
    num_steps: int, tiny_backbone: Backbone, tiny_task: Task, tmp_path: Path
) -> None:
    settings = {"lr": (1e-3, 1e-2, 1e-5), "size": (3, 8)}
    whole = tune(tiny_backbone, tiny_task, BASE, **settings)  # type: ignore[arg-type]
    seen: list[object] = []

    def interrupt(event: object) -> None:
        seen.append(event)
        if len(seen) == num_steps:
            signal.raise_signal(signal.SIGINT)

    path = tmp_path / "tune.ckpt"
    with pytest.raises(KeyboardInterrupt):
        tune(tiny_backbone, tiny_task, BASE, **settings, checkpoint=path, progress=interrupt)  # type: ignore[arg-type]
    resumed = tune(tiny_backbone, tiny_task, BASE, **settings, checkpoint=path, resume=True)  # type: ignore[arg-type]
    assert resumed.adapter.tensor_digest == whole.adapter.tensor_digest
    assert resumed.why == whole.why
    assert resumed.trials == whole.trials
    with pytest.raises(CheckpointError, match="belongs to another run"):
        tune(tiny_backbone, tiny_task, replace(BASE, seed=1), **settings, checkpoint=path, resume=True)  # type: ignore[arg-type]


def test_a_single_setting_is_refused(tiny_backbone: Backbone, tiny_task: Task) -> None:
    with pytest.raises(RecipeError, match="only one setting"):
        tune(tiny_backbone, tiny_task, replace(BASE, lr=1e-3), size=(8,))
    with pytest.raises(RecipeError, match="a value is given twice"):
        tune(tiny_backbone, tiny_task, BASE, lr=(1e-3, 1e-3))
    with pytest.raises(RecipeError, match="has no size to vary"):
        tune(tiny_backbone, tiny_task, Recipe(LayerNormOnly()), size=(8, 16))


def test_of_equal_scores_the_lower_training_loss_wins(tiny_backbone: Backbone, tiny_task: Task) -> None:
    easy = replace(tiny_task, validation=Rows(["good film", "bad film"], targets=[1, 0]))
    tuned = tune(tiny_backbone, easy, replace(BASE, epochs=1), lr=(2e-2, 5e-3), size=(8,))
    first, second = (train(tiny_backbone, easy, trial.recipe)[1] for trial in tuned.trials)
    assert first.validation.score == second.validation.score == 1.0
    assert first.history[0]["loss"] < second.history[0]["loss"]
    assert "had the same at a higher training loss" in tuned.why
