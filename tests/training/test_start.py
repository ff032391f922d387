"""A training starts from stored adapters: their weights, their provenance in the file, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from polytask.adapters.adapter import Adapter
from polytask.adapters.averaging import average_adapters
from polytask.adapters.module import encode_batch
from polytask.adapters.store import Store
from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.data.batches import collate
from polytask.data.task import Task
from polytask.errors import CheckpointError, RecipeError, WrongBackbone
from polytask.methods import FullFineTuning, Houlsby, LoRA, Probe
from polytask.routing.route import Route
from polytask.training.checkpoint import Checkpoint
from polytask.training.fused import train_many
from polytask.training.grid import grid
from polytask.training.job import Job, attached_to
from polytask.training.loop import train
from polytask.training.recipe import Recipe
from polytask.training.start import Start, start_from
from polytask.training.start_trial import (
    BUDGET,
    MIN_STEPS,
    NOTHING,
    SHARE,
    candidates_in,
    choose_start,
    start_or_trial,
    trial_of,
)
from polytask.training.sweep import sweep
from polytask.training.to_store import train_many_to_store, train_to_store, tune_to_store
from polytask.training.tune import tune

QUICK = Recipe(Houlsby(4), lr=1e-2, epochs=2, batch_size=16)


@pytest.fixture
def first(tiny_backbone: Backbone, tiny_task: Task) -> Adapter:
    return train(tiny_backbone, replace(tiny_task, name="first"), QUICK)[0]


@pytest.fixture
def other(tiny_task: Task) -> Task:
    """A task with other labels and other rows."""
    return replace(tiny_task, name="other", labels=("no", "yes"), train=tiny_task.train.take(range(32)))


def hidden_part(adapter: Adapter) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in adapter.tensors.items() if not name.startswith("head.")}


def test_before_its_first_step_a_job_is_the_adapter_that_it_starts_from(
    tiny_backbone: Backbone, tiny_task: Task, other: Task, first: Adapter, tmp_path: Path
) -> None:
    job = Job(tiny_backbone, other, QUICK, start=Start.of([first]))
    assert all(torch.equal(job.live.tensors()[name], tensor) for name, tensor in hidden_part(first).items())
    same_labels = Job(tiny_backbone, tiny_task, QUICK, start=Start.of([first]))
    assert all(torch.equal(same_labels.live.tensors()[name], tensor) for name, tensor in first.tensors.items())
    assert job.origin is not None
    assert same_labels.origin is not None
    assert (job.origin["head"], same_labels.origin["head"]) == ("fresh", "taken")
    fresh = Job(tiny_backbone, other, QUICK)
    assert torch.equal(job.live.head.weight, fresh.live.head.weight)
    before = [vectors_under(tiny_backbone, each) for each in (job, same_labels, fresh)]
    assert torch.equal(before[0], before[1])
    assert not torch.equal(before[0], before[2])


def test_adapters_without_the_setting_norms_have_tuned_norms(tiny_task: Task, folder_of: Callable[[str], Path]) -> None:
    backbone = load_backbone(folder_of("modernbert"), device="cpu", dtype="float32")
    tuned = replace(QUICK, method=Houlsby(4, norms=True), epochs=1)
    new, _ = train(backbone, replace(tiny_task, name="new"), tuned)
    header = new.header.to_object()
    del header["method"]["norms"]
    older = Adapter.with_digest(header, new.tensors)
    assert older.method == Houlsby(4)
    job = Job(backbone, tiny_task, tuned, start=Start.of([older]))
    assert all(torch.equal(job.live.tensors()[name], tensor) for name, tensor in hidden_part(older).items())
    with pytest.raises(RecipeError, match="it has norms True, not False"):
        Job(backbone, tiny_task, QUICK, start=Start.of([older]))
    average = average_adapters([new, older], "both")
    assert all(torch.allclose(average.tensors[name], tensor) for name, tensor in hidden_part(new).items())


def vectors_under(backbone: Backbone, job: Job) -> torch.Tensor:
    """The pooled vectors of the validation rows with the job's deltas."""
    rows = list(range(len(job.validation)))
    batch = collate([(job.validation, rows)], 0, backbone.device)
    route = Route.of([job.name] * len(rows))
    with attached_to(backbone, [job]) as attached, attached.routed(route), torch.no_grad():
        return encode_batch(backbone, batch, job.live)[1]


def test_the_file_says_what_it_started_from_and_reads_back(
    tiny_backbone: Backbone, other: Task, first: Adapter, tmp_path: Path
) -> None:
    adapter, result = train(tiny_backbone, other, QUICK, start=first)
    parent = {"name": "first", "tensor_digest": first.tensor_digest, "weight": 1.0}
    assert adapter.header.start == result.start == {"adapters": [parent], "head": "fresh"}
    adapter.save(tmp_path / "a.safetensors")
    again = Adapter.load(tmp_path / "a.safetensors")
    assert again.header == adapter.header
    plain, plain_result = train(tiny_backbone, other, QUICK)
    assert plain.header.start is None
    assert "start" not in plain.header.to_object()
    assert "start" not in plain_result.to_json()
    assert plain.tensor_digest != adapter.tensor_digest


def test_a_full_fine_tuning_starts_from_another(tiny_backbone: Backbone, other: Task, tiny_task: Task) -> None:
    recipe = replace(QUICK, method=FullFineTuning(), lr=1e-3, epochs=1)
    first, _ = train(tiny_backbone, tiny_task, recipe)
    job = Job(tiny_backbone, other, recipe, start=Start.of([first]))
    assert all(torch.equal(job.live.tensors()[name], tensor) for name, tensor in hidden_part(first).items())


def test_several_adapters_are_averaged(tiny_backbone: Backbone, tiny_task: Task, other: Task, first: Adapter) -> None:
    second, _ = train(tiny_backbone, tiny_task, replace(QUICK, seed=1))
    job = Job(tiny_backbone, other, QUICK, start=start_from([first, second]))
    for name, tensor in hidden_part(first).items():
        torch.testing.assert_close(job.live.tensors()[name], (tensor + second.tensors[name]) / 2)
    assert job.origin is not None
    assert [parent["weight"] for parent in job.origin["adapters"]] == [0.5, 0.5]


def test_jobs_of_a_fused_training_have_their_own_starts(
    tiny_backbone: Backbone, tiny_task: Task, other: Task, first: Adapter
) -> None:
    jobs = {"mood": (tiny_task, QUICK), "other": (other, QUICK)}
    alone = train(tiny_backbone, other, QUICK, start=first)[0]
    outcomes = train_many(tiny_backbone, jobs, start={"other": first})
    assert not isinstance(outcomes["other"], RecipeError)
    assert not isinstance(outcomes["mood"], RecipeError)
    assert outcomes["mood"][0].header.start is None
    for name, tensor in outcomes["other"][0].tensors.items():
        torch.testing.assert_close(tensor, alone.tensors[name], rtol=0, atol=1e-4)


def test_what_does_not_fit_is_refused(tiny_backbone: Backbone, other: Task, first: Adapter, tmp_path: Path) -> None:
    for method, why in ((Houlsby(8), "size 4, not 8"), (LoRA(2), "the method houlsby, not lora")):
        with pytest.raises(RecipeError, match=f"first cannot be the start, because it has {why}"):
            train(tiny_backbone, other, replace(QUICK, method=method), start=first)
    with pytest.raises(RecipeError, match="nothing to start from"):
        train(tiny_backbone, other, Recipe(Probe()), start=first)
    with pytest.raises(RecipeError, match="no store is given"):
        train(tiny_backbone, other, QUICK, start="first@1")
    tiny_backbone.fingerprint = "0" * 64
    with pytest.raises(WrongBackbone, match="fingerprint"):
        train(tiny_backbone, other, QUICK, start=first)


def test_an_interrupted_run_resumes_from_the_same_start_only(
    tiny_backbone: Backbone, other: Task, first: Adapter, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    store.put(first)
    whole = train_to_store(tiny_backbone, other, QUICK, tmp_path, start="first")
    assert whole.entry.header.start is not None
    assert whole.entry.header.start["adapters"][0]["name"] == "first@1"
    state = tmp_path / "state.ckpt"

    def begin(start: str | None) -> None:
        job = Job(tiny_backbone, other, QUICK, start=start_from(start, store))
        Checkpoint(state).write(tiny_backbone, [job])

    begin("first@1")
    with pytest.raises(CheckpointError, match=r"start was first@1, with a fresh head \([0-9a-f]{8}\) and is None"):
        train(tiny_backbone, other, QUICK, checkpoint=state, resume=True)
    how = {"checkpoint": state, "resume": True, "notify": list[str]().append}
    resumed = train_to_store(tiny_backbone, other, QUICK, tmp_path, start="first@1", **how)  # type: ignore[arg-type]
    assert str(resumed.entry) == str(whole.entry), "it is the same adapter, which is not stored twice"
    plain = train_to_store(tiny_backbone, other, QUICK, tmp_path)
    begin(None)
    resumed = train_to_store(tiny_backbone, other, QUICK, tmp_path, start="auto", **how)  # type: ignore[arg-type]
    assert resumed.chosen is None, "a resumed run keeps the start that it had"
    assert str(resumed.entry) == str(plain.entry)


def test_the_trial_chooses_by_validation_and_says_what_it_cost(
    tiny_backbone: Backbone, tiny_task: Task, tmp_path: Path
) -> None:
    learnt, _ = train(tiny_backbone, replace(tiny_task, name="first"), replace(QUICK, epochs=20))
    store = Store(tmp_path)
    store.put(learnt)
    train_to_store(tiny_backbone, replace(tiny_task, name="layernorms"), replace(QUICK, method=LoRA(2)), tmp_path)
    task = replace(tiny_task, name="other", train=tiny_task.train.take(range(40)))
    recipe = replace(QUICK, lr=1e-4)
    candidates = candidates_in(store, tiny_backbone, task, recipe.method)
    assert list(candidates) == ["first@1"], "an adapter of another method cannot be the start"
    notes: list[str] = []
    run = train_to_store(tiny_backbone, task, recipe, tmp_path, start="auto", notify=notes.append)
    assert run.chosen is not None
    assert [trial.name for trial in run.chosen.trials] == [NOTHING, "first@1"]
    assert run.chosen.start is not None
    assert run.result.validation.score == 1.0
    assert notes == [f"{run.chosen.why}. The trial took {run.chosen.steps} steps"]
    assert notes[0].startswith("it starts from first@1: accuracy 1.000 after ")


def test_a_tie_is_for_random_weights_and_an_empty_store_has_nothing_to_try(
    tiny_backbone: Backbone, tiny_task: Task, tmp_path: Path
) -> None:
    task, recipe = replace(tiny_task, name="other", labels=("no", "yes")), replace(QUICK, lr=1e-9, epochs=1)
    as_random, _ = train(tiny_backbone, tiny_task, recipe)
    chosen = choose_start(tiny_backbone, task, recipe, {"mood@1": as_random})
    assert chosen.trials[0].score == chosen.trials[1].score
    assert chosen.start is None
    start, none = start_or_trial("auto", Store(tmp_path), tiny_backbone, task, recipe)
    assert start is None
    assert none is not None
    assert none.steps == 0


def test_the_task_itself_and_its_data_are_no_candidates(
    tiny_backbone: Backbone, tiny_task: Task, first: Adapter, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    store.put(first)  # trained on the rows of mood
    assert candidates_in(store, tiny_backbone, tiny_task, QUICK.method) == {}
    fewer = replace(tiny_task, name="first", train=tiny_task.train.take(range(20)))
    assert candidates_in(store, tiny_backbone, fewer, QUICK.method) == {}
    assert list(candidates_in(store, tiny_backbone, replace(fewer, name="x"), QUICK.method)) == ["first@1"]


@pytest.mark.parametrize(("rows", "candidates"), [(48, 2), (2000, 2), (2000, 9)])
def test_a_trial_costs_at_most_half_of_the_training(tiny_task: Task, rows: int, candidates: int) -> None:
    task = replace(tiny_task, train=tiny_task.train.take([row % 48 for row in range(rows)]))
    recipe = Recipe(batch_size=8).resolved(rows, "classification")
    own, short = trial_of(task, recipe, candidates)
    whole = -(-rows // 8) * (recipe.epochs or 0)
    steps = -(-len(own.train) // 8) * (short.epochs or 0)
    assert steps <= max(MIN_STEPS + 2, SHARE * whole + 1, 0)
    assert steps * candidates <= max(BUDGET * whole + candidates, candidates * (MIN_STEPS + 2))


def test_the_rows_of_a_trial_never_have_one_target_only(tiny_task: Task) -> None:
    rows = tiny_task.train.take([0] * 400 + [6])
    own, _ = trial_of(replace(tiny_task, train=rows), Recipe(batch_size=1, epochs=1), 2)
    assert len(own.train) == 40
    assert set(own.train.targets or ()) == {0, 1}


def test_a_sweep_starts_all_runs_from_it_and_refuses_to_mix(
    tiny_backbone: Backbone, other: Task, first: Adapter, tmp_path: Path
) -> None:
    recipes = grid(QUICK, lr=(1e-3, 1e-2), seeds=1)
    swept = sweep(tiny_backbone, other, recipes, folder=tmp_path / "a", start=first)
    assert swept.best.header.start is not None
    again = sweep(tiny_backbone, other, recipes, folder=tmp_path / "a", start=first)
    assert again.best.tensor_digest == swept.best.tensor_digest
    with pytest.raises(CheckpointError, match="belongs to another sweep: start was"):
        sweep(tiny_backbone, other, recipes, folder=tmp_path / "a")


def test_tuning_from_a_start_tries_its_size_only(tiny_backbone: Backbone, other: Task, first: Adapter) -> None:
    tuned = tune(tiny_backbone, other, replace(QUICK, lr=None), lr=(1e-3, 1e-2), start=first)
    assert {trial.recipe.method for trial in tuned.trials} == {QUICK.method}
    assert tuned.adapter.header.start is not None


def test_names_are_of_the_store_for_several_tasks_and_tuning_too(
    tiny_backbone: Backbone, tiny_task: Task, other: Task, first: Adapter, tmp_path: Path
) -> None:
    Store(tmp_path).put(first)
    runs = train_many_to_store(
        tiny_backbone, {"mood": (tiny_task, QUICK), "other": (other, QUICK)}, tmp_path, start="first@1"
    )
    heads = {name: run.entry.header.start["head"] for name, run in runs.items()}  # type: ignore[union-attr, index]
    assert heads == {"mood": "taken", "other": "fresh"}
    tuned = tune_to_store(tiny_backbone, other, replace(QUICK, lr=None, epochs=1), tmp_path, start="first@1")
    assert tuned.entry.header.start is not None
