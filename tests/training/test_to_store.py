"""Runs that end in a store: the same adapter as ``train``, checkpoints, and what is stored once only."""

from __future__ import annotations

from pathlib import Path

import pytest

from polytask.adapters.store import TRAINING, Store
from polytask.backbones.backbone import Backbone
from polytask.data.task import Task
from polytask.errors import CheckpointError
from polytask.evaluation.thresholds import Goal
from polytask.methods import Houlsby
from polytask.training.events import Event
from polytask.training.grid import grid
from polytask.training.loop import train
from polytask.training.recipe import Recipe
from polytask.training.sweep import settled
from polytask.training.sweep_cost import sweep_cost
from polytask.training.to_store import (
    check_replaceable,
    checkpoint_path,
    interrupted_setting,
    put_once,
    train_to_store,
    tune_to_store,
)

QUICK = Recipe(Houlsby(2), epochs=2, batch_size=16)


def test_the_stored_adapter_is_the_one_that_train_returns(
    tiny_backbone: Backbone, tiny_task: Task, tmp_path: Path
) -> None:
    run = train_to_store(tiny_backbone, tiny_task, QUICK, tmp_path)
    alone, _ = train(tiny_backbone, tiny_task, QUICK)
    assert run.adapter.tensor_digest == alone.tensor_digest
    assert Store(tmp_path).get(str(run.entry)).tensor_digest == alone.tensor_digest
    assert [path.name for path in tmp_path.iterdir()] == ["mood"]


def test_an_interrupted_run_leaves_its_checkpoint_and_is_resumed_to_the_same_adapter(
    tiny_backbone: Backbone, tiny_task: Task, tmp_path: Path
) -> None:
    def interrupt(event: Event) -> None:
        raise KeyboardInterrupt

    checkpoint = checkpoint_path(tmp_path, tiny_task.name)
    state, notes = tmp_path / "state.ckpt", list[str]()
    with pytest.raises(KeyboardInterrupt):
        train_to_store(tiny_backbone, tiny_task, QUICK, tmp_path, checkpoint=state, progress=interrupt)
    assert not checkpoint.exists()
    run = train_to_store(tiny_backbone, tiny_task, QUICK, tmp_path, checkpoint=state, resume=True, notify=notes.append)
    assert len(notes) == 1
    assert not state.exists()
    again = train_to_store(tiny_backbone, tiny_task, QUICK, tmp_path, resume=True, notify=notes.append)
    assert notes[-1].startswith("there is no checkpoint")
    assert str(again.entry) == str(run.entry), "a resumed run is not stored twice"
    goal = Goal("coverage", 0.5)
    other = train_to_store(tiny_backbone, tiny_task, QUICK, tmp_path, resume=True, goal=goal, notify=notes.append)
    assert other.adapter.tensor_digest == run.adapter.tensor_digest
    assert other.entry.header.thresholds is not None, "the same tensors with other thresholds are another adapter"


def test_a_new_run_keeps_the_former_checkpoint_until_it_ends(
    tiny_backbone: Backbone, tiny_task: Task, tmp_path: Path
) -> None:
    checkpoint, notes = checkpoint_path(tmp_path, tiny_task.name), list[str]()
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(b"former")
    former: list[bytes] = []

    def look(event: Event) -> None:
        former.append(checkpoint.with_name("mood.ckpt.old").read_bytes())

    train_to_store(tiny_backbone, tiny_task, QUICK, tmp_path, progress=look, notify=notes.append)
    assert set(former) == {b"former"}
    assert "Pass --resume to continue it" in notes[0]
    assert not (tmp_path / TRAINING).exists()


def test_tuning_stores_the_best_setting(tiny_backbone: Backbone, tiny_task: Task, tmp_path: Path) -> None:
    run = tune_to_store(tiny_backbone, tiny_task, QUICK, tmp_path, size=(2,))
    assert run.tuned is not None
    assert run.tuned.trials[0].name in run.tuned.why
    assert run.entry.digest == run.tuned.adapter.header.digest


def test_a_file_that_is_no_checkpoint_is_neither_resumed_nor_replaced(
    tiny_backbone: Backbone, tiny_task: Task, tmp_path: Path
) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    with pytest.raises(CheckpointError, match="so it is not overwritten"):
        check_replaceable(file)
    with pytest.raises(CheckpointError, match="so it is not overwritten"):
        train_to_store(tiny_backbone, tiny_task, QUICK, tmp_path / "store", checkpoint=file)
    with pytest.raises(CheckpointError):
        interrupted_setting(file)
    assert interrupted_setting(tmp_path / "nothing") is None
    assert file.read_text() == "mine"


def test_an_adapter_is_put_once(tiny_backbone: Backbone, tiny_task: Task, tmp_path: Path) -> None:
    adapter, _ = train(tiny_backbone, tiny_task, QUICK)
    store = Store(tmp_path)
    assert [put_once(store, adapter).version for _ in range(2)] == [1, 1]


def test_a_store_on_no_disk_has_its_checkpoints_in_the_working_directory() -> None:
    assert checkpoint_path("s3://bucket/adapters", "mood") == Path(".training", "mood.ckpt")
    assert checkpoint_path("adapters", "mood") == Path("adapters", ".training", "mood.ckpt")


def test_the_cost_of_a_sweep_is_measured_once_for_all_rates_and_seeds(tiny_backbone: Backbone, tiny_task: Task) -> None:
    recipes = settled(tiny_backbone, tiny_task, grid(QUICK, lr=(1e-3, 3e-3), size=(2, 4), seeds=2))
    costs = sweep_cost(tiny_backbone, tiny_task, recipes)
    assert [cost.seeds for cost in costs] == [(0, 1)] * 4
    assert [cost.values for cost in costs] == [{"size": size, "lr": lr} for size in (2, 4) for lr in (1e-3, 3e-3)]
    assert costs[0].run is costs[1].run
    assert costs[0].run is not costs[2].run
    assert costs[0].to_json()["steps"] == costs[0].run.steps
