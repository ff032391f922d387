"""``train_many``: each job equals training alone; budgets, failures, resuming and memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from polytask.adapters.adapter import Adapter
from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.data.task import Rows, Task
from polytask.errors import RecipeError
from polytask.methods import METHODS, FullFineTuning, Houlsby, TopLayers
from polytask.training.events import Event, Failed, Step
from polytask.training.fused import measured_budget, saved_bytes, train_many
from polytask.training.job import Job
from polytask.training.loop import jobs_within_budget, run_jobs, train
from polytask.training.recipe import Recipe

RECIPE = Recipe(Houlsby(4), lr=1e-2, epochs=2, batch_size=8)
CLOSE = {"rtol": 0, "atol": 2e-4}


def tensors_of(outcome: object) -> dict[str, torch.Tensor]:
    assert isinstance(outcome, tuple)
    adapter = outcome[0]
    assert isinstance(adapter, Adapter)
    return dict(adapter.tensors)


@pytest.fixture
def several(tiny_task: Task) -> dict[str, tuple[Task, Recipe]]:
    """Jobs that share nothing but the backbone."""
    long = Rows(
        ["the plot was not great at all and " + t for t in tiny_task.train.texts], targets=tiny_task.train.targets
    )
    scores = Rows(tiny_task.train.texts, targets=[2.0 * t for t in tiny_task.train.targets or []])
    return {
        "mood": (tiny_task, RECIPE),
        "long": (replace(tiny_task, train=long), replace(RECIPE, method=Houlsby(7), batch_size=5, seed=2)),
        "lora": (tiny_task, replace(RECIPE, method=METHODS["lora"](rank=3, dropout=0.1), epochs=1)),
        "stars": (Task("stars", "regression", (), "pearson", scores, scores), replace(RECIPE, method=METHODS["ia3"]())),
        "top": (tiny_task, replace(RECIPE, method=TopLayers(1), epochs=1)),
    }


def test_each_job_equals_training_alone(tiny_backbone: Backbone, several: dict[str, tuple[Task, Recipe]]) -> None:
    together = train_many(tiny_backbone, several)
    assert list(together) == list(several)
    for name, (task, recipe) in several.items():
        alone, result = train(tiny_backbone, task, recipe)
        torch.testing.assert_close(tensors_of(together[name]), dict(alone.tensors), **CLOSE)
        assert together[name][1].validation.score == pytest.approx(result.validation.score)  # type: ignore[index]


def test_in_fp32_the_first_gradients_are_those_of_each_alone(
    tiny_backbone: Backbone, several: dict[str, tuple[Task, Recipe]]
) -> None:
    def first_grads(names: list[str]) -> dict[str, torch.Tensor]:
        from polytask.adapters.attach import Attached
        from polytask.training.loop import forward

        jobs = [Job(tiny_backbone, *several[name], name=name) for name in names]
        attached = Attached(tiny_backbone.model, tiny_backbone.row, tiny_backbone.dropout_source)
        for job in jobs:
            attached.add(job.name, job.live.deltas)
        sum(forward(tiny_backbone, attached, jobs)[0]).backward()  # type: ignore[union-attr]
        return {job.name: job.optimizer.grad.clone() for job in jobs}

    names = ["mood", "long", "lora", "stars"]
    together = first_grads(names)
    for name in names:
        torch.testing.assert_close(together[name], first_grads([name])[name], rtol=1e-3, atol=1e-5)


def test_a_budget_makes_jobs_wait_and_changes_nothing_else(
    tiny_backbone: Backbone, several: dict[str, tuple[Task, Recipe]]
) -> None:
    jobs = [Job(tiny_backbone, *pair, name=name) for name, pair in several.items()]
    assert len(jobs_within_budget(jobs, None)) == len(jobs)
    assert [job.name for job in jobs_within_budget(jobs, 1)] == ["mood"]
    events: list[Event] = []
    waited = train_many(tiny_backbone, several, budget_tokens=100, progress=events.append)
    order = [event.job for event in events if isinstance(event, Step)]
    assert order.index("long") > order.index("mood")
    assert order != sorted(order, key=list(several).index) or len(set(order)) == len(several)
    free = train_many(tiny_backbone, several)
    for name in several:
        torch.testing.assert_close(tensors_of(waited[name]), tensors_of(free[name]), **CLOSE)


def test_a_job_that_diverges_stops_and_the_others_continue(tiny_backbone: Backbone, tiny_task: Task) -> None:
    broken = replace(RECIPE, method=FullFineTuning(), lr=1e30, epochs=20)
    events: list[Event] = []
    outcomes = train_many(tiny_backbone, {"a": (tiny_task, RECIPE), "b": (tiny_task, broken)}, progress=events.append)
    assert isinstance(outcomes["b"], RecipeError)
    assert [event.job for event in events if isinstance(event, Failed)] == ["b"]
    alone, _ = train(tiny_backbone, tiny_task, RECIPE)
    torch.testing.assert_close(tensors_of(outcomes["a"]), dict(alone.tensors), **CLOSE)


def test_many_resume_together(tiny_backbone: Backbone, several: dict[str, tuple[Task, Recipe]], tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    whole = train_many(tiny_backbone, several, budget_tokens=10**6)

    class Stop(Exception):
        pass

    seen: list[Event] = []

    def stop(event: Event) -> None:
        seen.append(event)
        if len(seen) == 23:
            raise Stop

    from polytask.training.checkpoint import Checkpoint

    with pytest.raises(Stop):
        train_many(tiny_backbone, several, budget_tokens=10**6, checkpoint=Checkpoint(path, every_s=0), progress=stop)
    assert path.exists()
    resumed = train_many(tiny_backbone, several, budget_tokens=10**6, checkpoint=path, resume=True)
    for name in several:
        assert whole[name][0].tensor_digest == resumed[name][0].tensor_digest  # type: ignore[index]


def test_jobs_that_step_together_take_batches_of_one_length(tiny_backbone: Backbone) -> None:
    words = ["good", "bad", "film", "plot", "actor"]

    def task(name: str, num_rows: int) -> Task:
        texts = [" ".join([words[row % 5]] * (1 + row * 7 % 40)) for row in range(num_rows)]
        rows = Rows(texts, targets=[row % 2 for row in range(num_rows)])
        return Task(name, "classification", ("x", "y"), "accuracy", rows, rows.take(range(4)))

    jobs = [Job(tiny_backbone, task(f"t{n}", n), replace(RECIPE, epochs=1), name=f"t{n}") for n in (400, 480, 560)]
    paddings = [event.padding for event in run_jobs(tiny_backbone, jobs) if isinstance(event, Step)]
    assert sum(paddings) / len(paddings) < 0.1  # texts of 3 to 42 tokens; at random it would be about a half


def test_memory_is_measured_from_what_a_step_keeps(tiny_backbone: Backbone, tiny_task: Task) -> None:
    all_layers = Job(tiny_backbone, tiny_task, RECIPE)
    top_layer = Job(tiny_backbone, tiny_task, replace(RECIPE, method=Houlsby(4, layers=1)))
    much, little = saved_bytes(tiny_backbone, [all_layers]), saved_bytes(tiny_backbone, [top_layer])
    assert 0 < little < 0.7 * much
    assert measured_budget(tiny_backbone, [all_layers]) > 1000
    assert not tiny_backbone.model.training


def test_two_jobs_of_one_name_are_refused(tiny_backbone: Backbone, tiny_task: Task) -> None:
    with pytest.raises(RecipeError, match="one name"):
        train_many(tiny_backbone, [(tiny_task, RECIPE), (tiny_task, RECIPE)])


def test_on_minilm_training_together_equals_training_alone(minilm: Backbone) -> None:
    good = ["what a wonderful film", "I loved every minute", "a moving story, well told", "the best of the year"]
    bad = ["what a dreadful film", "I hated every minute", "a dull story, badly told", "the worst of the year"]
    rows = Rows([*good, *bad] * 2, targets=([1] * 4 + [0] * 4) * 2)
    task = Task("mood", "classification", ("bad", "good"), "accuracy", rows, rows.take(range(8)))
    recipes = {f"r{size}": (task, Recipe(Houlsby(size), lr=1e-3, epochs=2, batch_size=4)) for size in (4, 6)}
    together = train_many(minilm, recipes)
    for name, (_, recipe) in recipes.items():
        alone, _ = train(minilm, task, recipe)
        torch.testing.assert_close(tensors_of(together[name]), dict(alone.tensors), rtol=0, atol=5e-3)


def test_in_float64_many_steps_with_dropout_on_differ_by_nothing(
    tiny_bert_folder: Path, several: dict[str, tuple[Task, Recipe]]
) -> None:
    backbone = load_backbone(tiny_bert_folder, device="cpu", dtype="float64", pooling="mean")
    together = [Job(backbone, *pair, name=name) for name, pair in several.items()]
    for _ in run_jobs(backbone, together):
        pass
    for job in together:
        alone = Job(backbone, *several[job.name], name=job.name)
        for _ in run_jobs(backbone, [alone]):
            pass
        torch.testing.assert_close(job.optimizer.flat, alone.optimizer.flat, rtol=0, atol=1e-9)
