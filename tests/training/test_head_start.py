"""Heads that start at a probe's weights: the same answers, resumed as uninterrupted, together as alone, refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from polytask.backbones.backbone import Backbone
from polytask.data.task import Kind, Rows, Task
from polytask.errors import RecipeError
from polytask.methods import FullFineTuning, Houlsby, LoRA, Method, Probe
from polytask.training.fused import train_many
from polytask.training.job import Job, attached_to
from polytask.training.loop import run_jobs, train
from polytask.training.multitask import MultitaskJob
from polytask.training.probe import fit_job, start_heads
from polytask.training.recipe import Recipe
from polytask.training.scoring import scores_on
from polytask.training.start import Start
from tests.interrupted import check_resumed_equals_whole

RECIPE = Recipe(Houlsby(4), lr=1e-2, epochs=2, batch_size=8, head_start="probe")
CLOSE = {"rtol": 0, "atol": 2e-4}


def of_kind(task: Task, kind: Kind) -> Task:
    """The texts of a task with targets of this kind."""
    if kind == "classification":
        return task
    held = task.train.targets or ()
    targets = [float(len(text)) for text in task.train.texts] if kind == "regression" else [(0,) * t for t in held]
    rows = Rows(task.train.texts, targets=targets)
    labels, metric = ((), "pearson") if kind == "regression" else (("good",), "micro_f1")
    return Task("own", kind, labels, metric, rows, rows.take(range(12)))


def started(backbone: Backbone, job: Job) -> torch.Tensor:
    """The scores of a job's validation rows before its first step."""
    with attached_to(backbone, [job]) as attached:
        start_heads(backbone, attached, [job])
    return torch.stack(scores_on(backbone, job, job.validation))


@pytest.mark.parametrize("kind", ["classification", "multilabel", "regression"])
@pytest.mark.parametrize("method", [Houlsby(4), LoRA(2), FullFineTuning()], ids=lambda method: method.name)
def test_before_the_first_step_answers_are_those_of_the_probe(
    method: Method, kind: Kind, tiny_backbone: Backbone, tiny_task: Task
) -> None:
    task = of_kind(tiny_task, kind)
    probe = Job(tiny_backbone, task, Recipe(Probe()))
    fit_job(tiny_backbone, probe)
    expected = torch.stack(scores_on(tiny_backbone, probe, probe.validation))
    job = Job(tiny_backbone, task, replace(RECIPE, method=method))
    torch.testing.assert_close(started(tiny_backbone, job), expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(job.best, job.optimizer.flat)
    assert expected.std() > 1e-3


def test_stopped_and_resumed_is_the_same_run(tiny_backbone: Backbone, tiny_task: Task, tmp_path: Path) -> None:
    check_resumed_equals_whole(tiny_backbone, lambda: Job(tiny_backbone, tiny_task, RECIPE), tmp_path / "run.ckpt")


def test_together_each_equals_training_alone(tiny_backbone: Backbone, tiny_task: Task) -> None:
    other = replace(tiny_task, name="other", train=tiny_task.train.take(range(20)))
    jobs = {
        "one": (tiny_task, RECIPE),
        "other": (other, RECIPE),
        "random": (tiny_task, replace(RECIPE, head_start="random")),
    }
    outcomes = train_many(tiny_backbone, jobs)
    for name, outcome in outcomes.items():
        assert not isinstance(outcome, RecipeError)
        alone, _ = train(tiny_backbone, *jobs[name])
        torch.testing.assert_close(dict(outcome[0].tensors), dict(alone.tensors), **CLOSE)


def test_every_head_of_a_multitask_training_starts_at_its_probe(tiny_backbone: Backbone, tiny_task: Task) -> None:
    tasks = [tiny_task, of_kind(tiny_task, "multilabel")]
    job = MultitaskJob(tiny_backbone, tasks, RECIPE)
    with attached_to(tiny_backbone, [job]) as attached:
        start_heads(tiny_backbone, attached, [job])
    for part, task in zip(job.parts, tasks, strict=True):
        probe = Job(tiny_backbone, task, Recipe(Probe()))
        fit_job(tiny_backbone, probe)
        torch.testing.assert_close(part.live.head.weight, probe.live.head.weight, rtol=1e-3, atol=1e-4)


def test_a_head_that_was_taken_over_stays_and_a_fresh_one_is_fitted(tiny_backbone: Backbone, tiny_task: Task) -> None:
    parent, _ = train(tiny_backbone, tiny_task, replace(RECIPE, epochs=1, head_start="random"))
    taken = Job(tiny_backbone, tiny_task, RECIPE, start=Start.of([parent]))
    started(tiny_backbone, taken)
    assert torch.equal(taken.live.head.weight.cpu(), parent.tensors["head.weight"])
    renamed = replace(tiny_task, labels=("no", "yes"))
    fresh, untrained = (Job(tiny_backbone, renamed, RECIPE, start=Start.of([parent])) for _ in range(2))
    started(tiny_backbone, fresh)
    assert not torch.equal(fresh.live.head.weight, untrained.live.head.weight)


def test_the_last_epoch_can_be_kept(tiny_backbone: Backbone, tiny_task: Task) -> None:
    job = Job(tiny_backbone, tiny_task, replace(RECIPE, keep_epoch="last", epochs=3, lr=1e-9))
    for _ in run_jobs(tiny_backbone, [job]):
        pass
    assert len({own["score"] for own in job.history}) == 1
    assert (job.best_epoch, job.best_score) == (3, job.history[-1]["score"])
    assert torch.equal(job.best, job.optimizer.flat)


@pytest.mark.parametrize(("rows", "epochs"), [(1, 30), (32, 30), (33, 15), (64, 15), (65, 10), (4800, 10), (60_000, 3)])
def test_few_rows_get_thirty_steps_from_a_probe(rows: int, epochs: int) -> None:
    resolved = Recipe().resolved(rows, "classification")
    is_few = rows <= 64
    assert resolved.epochs == epochs
    assert (resolved.head_start, resolved.keep_epoch) == (("probe", "last") if is_few else ("random", "best"))
    assert resolved.resolved(rows, "classification") == resolved


def test_other_kinds_given_epochs_baselines_and_patience_keep_their_settings() -> None:
    plain = [Recipe().resolved(16, kind) for kind in ("regression", "span", None)]
    plain += [own.resolved(16, "multilabel") for own in (Recipe(epochs=10), Recipe(FullFineTuning()))]
    assert {(own.epochs, own.head_start, own.keep_epoch) for own in plain} == {(10, "random", "best")}
    assert Recipe(patience=2).resolved(16, "multilabel").keep_epoch == "best"
    assert Recipe(Probe()).resolved(16, "multilabel").head_start == "random"


def test_a_random_head_is_not_written_and_spans_are_refused() -> None:
    assert "head_start" not in Recipe().to_json()
    assert Recipe.from_json(RECIPE.to_json()) == RECIPE
    with pytest.raises(RecipeError, match="cannot find spans"):
        RECIPE.fitted("span", 64)
    with pytest.raises(RecipeError, match="'random' or 'probe'"):
        replace(RECIPE, head_start="warm")
    with pytest.raises(RecipeError, match="'best' or 'last'"):
        replace(RECIPE, keep_epoch="first")
    with pytest.raises(RecipeError, match="patience waits for a better epoch"):
        replace(RECIPE, keep_epoch="last", patience=3)
