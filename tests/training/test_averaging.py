"""Averages over steps and over modules, and two passes a step: arithmetic, equivalences and refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from polytask.backbones.backbone import Backbone
from polytask.data.task import Rows, Task
from polytask.errors import RecipeError
from polytask.evaluation.heads import head_for
from polytask.methods import FullFineTuning, Houlsby, LoRA, Method, Pfeiffer
from polytask.training.fused import train_many
from polytask.training.job import Job, attached_to
from polytask.training.loop import forward, run_jobs, train
from polytask.training.recipe import Recipe
from polytask.training.scoring import validate
from tests.interrupted import check_resumed_equals_whole

RECIPE = Recipe(Houlsby(4), lr=1e-2, epochs=3, batch_size=8)
ADAMIX = {"num_modules": 3, "rdrop": 1.0}
SETTINGS = [{"ema": 0.9}, {"rdrop": 1.0}, {"num_modules": 2}, {**ADAMIX, "ema": 0.8}]
RATES = (0.0, 0.1, None)
CLOSE = {"rtol": 0, "atol": 2e-4}


@pytest.mark.parametrize("decay", [0.6, 1.0])
def test_the_average_is_the_mean_of_the_first_steps_and_then_exponential(
    decay: float, tiny_backbone: Backbone, tiny_task: Task
) -> None:
    job = Job(tiny_backbone, tiny_task, replace(RECIPE, ema=decay))
    expected, step = torch.zeros_like(job.optimizer.flat), 0
    for _ in run_jobs(tiny_backbone, [job]):
        if job.step > step:
            step = job.step
            share = max(1 - decay, 1 / step)
            expected = (1 - share) * expected + share * job.optimizer.flat
    assert job.average is not None
    torch.testing.assert_close(job.average.mean, expected)
    assert not torch.equal(job.average.mean, job.optimizer.flat)


def test_averaging_changes_what_is_kept_and_not_how_it_is_trained(tiny_backbone: Backbone, tiny_task: Task) -> None:
    plain, averaged = (Job(tiny_backbone, tiny_task, replace(RECIPE, ema=decay)) for decay in (0.0, 0.9))
    for job in (plain, averaged):
        for _ in run_jobs(tiny_backbone, [job]):
            if job.average is not None and job.ends_epoch and job.best_epoch == job.epoch:
                torch.testing.assert_close(job.best, job.average.mean, rtol=0, atol=0)
    assert torch.equal(plain.optimizer.flat, averaged.optimizer.flat)
    assert not torch.equal(plain.best, averaged.best)


def test_the_score_is_that_of_the_averaged_weights(tiny_backbone: Backbone, tiny_task: Task) -> None:
    job = Job(tiny_backbone, tiny_task, replace(RECIPE, ema=0.9, epochs=1))
    for _ in run_jobs(tiny_backbone, [job]):
        pass
    own = job.optimizer.flat.clone()
    job.restore_best()
    job.average = None
    with attached_to(tiny_backbone, [job]) as attached:
        assert validate(tiny_backbone, attached, job) == job.best_score
    assert not torch.equal(job.optimizer.flat, own)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_stopped_and_resumed_is_the_same_run(
    settings: dict[str, float], tiny_backbone: Backbone, tiny_task: Task, tmp_path: Path
) -> None:
    def job() -> Job:
        return Job(tiny_backbone, tiny_task, replace(RECIPE, epochs=2, **settings))  # type: ignore[arg-type]

    check_resumed_equals_whole(tiny_backbone, job, tmp_path / "run.ckpt")


def test_together_each_equals_training_alone(tiny_backbone: Backbone, tiny_task: Task) -> None:
    jobs = {str(number): (tiny_task, replace(RECIPE, epochs=2, **own)) for number, own in enumerate(SETTINGS)}  # type: ignore[arg-type]
    for name, outcome in train_many(tiny_backbone, jobs).items():
        assert not isinstance(outcome, RecipeError)
        alone, result = train(tiny_backbone, *jobs[name])
        torch.testing.assert_close(dict(outcome[0].tensors), dict(alone.tensors), **CLOSE)
        assert outcome[1].validation.score == pytest.approx(result.validation.score)


@pytest.mark.parametrize("method", [Houlsby(4), FullFineTuning()], ids=lambda method: method.name)
def test_without_dropout_the_two_passes_of_rdrop_agree(
    method: Method, tiny_backbone: Backbone, tiny_task: Task
) -> None:
    for module in tiny_backbone.model.modules():
        if hasattr(module, "p"):
            module.p = 0.0
    recipe = replace(RECIPE, method=method, head_dropout=0.0)
    jobs = [Job(tiny_backbone, tiny_task, replace(recipe, rdrop=weight)) for weight in (0.0, 5.0)]
    losses = []
    for job in jobs:
        with attached_to(tiny_backbone, [job]) as attached:
            (loss,), num_tokens = forward(tiny_backbone, attached, [job])
        losses.append((float(loss.detach()), num_tokens, len(job.next_rows())))
    assert losses[1][0] == pytest.approx(losses[0][0], rel=1e-5)
    assert losses[1][1:] == (2 * losses[0][1], 2 * losses[0][2])


def test_without_backbone_dropout_the_loss_is_that_of_the_backbone_without_dropout(
    tiny_backbone: Backbone, tiny_task: Task
) -> None:
    jobs = [Job(tiny_backbone, tiny_task, replace(RECIPE, backbone_dropout=rate), name=f"{rate}") for rate in RATES]
    with attached_to(tiny_backbone, jobs) as attached:
        together = [float(loss.detach()) for loss in forward(tiny_backbone, attached, jobs)[0]]
        without, usual, own = (float(forward(tiny_backbone, attached, [job])[0][0].detach()) for job in jobs)
        for module in tiny_backbone.model.modules():
            if hasattr(module, "p"):
                module.p = 0.0
        expected = [float(forward(tiny_backbone, attached, [job])[0][0].detach()) for job in jobs]
    assert together == pytest.approx([without, usual, own], rel=1e-5)
    assert without == pytest.approx(expected[0], rel=1e-6)
    assert usual == pytest.approx(own, rel=1e-6), "the backbone's own rate is 0.1"
    assert abs(usual - expected[1]) > 1e-4


def test_with_dropout_the_divergence_of_the_two_passes_is_added(tiny_backbone: Backbone, tiny_task: Task) -> None:
    losses = []
    for weight in (1e-9, 1.0, 2.0):
        job = Job(tiny_backbone, tiny_task, replace(RECIPE, rdrop=weight))
        with attached_to(tiny_backbone, [job]) as attached:
            losses.append(float(forward(tiny_backbone, attached, [job])[0][0].detach()))
    assert losses[1] > losses[0]
    assert losses[2] - losses[0] == pytest.approx(2 * (losses[1] - losses[0]), rel=1e-3)


def test_divergences_are_those_of_the_distributions() -> None:
    torch.manual_seed(0)
    kl = torch.distributions.kl_divergence
    one, other, targets = torch.randn(5, 3), torch.randn(5, 3), torch.zeros(5, 3)

    def both(kind: type, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        p, q = kind(logits=first), kind(logits=second)
        return (kl(p, q) + kl(q, p)) / 2

    categorical, bernoulli = torch.distributions.Categorical, torch.distributions.Bernoulli
    heads = {kind: head_for(kind, 3, 8) for kind in ("classification", "multilabel", "regression", "span")}
    expected = both(categorical, one, other)
    torch.testing.assert_close(heads["classification"].divergences(one, other, targets), expected)
    expected = both(bernoulli, one, other).mean(dim=-1)
    torch.testing.assert_close(heads["multilabel"].divergences(one, other, targets), expected)

    heads["regression"].standardise([0.0, 4.0])
    normals = [torch.distributions.Normal(values[:, 0], 2.0) for values in (one, other)]
    values = heads["regression"].divergences(one[:, :1], other[:, :1], targets[:, 0])
    torch.testing.assert_close(values, kl(*normals))

    first, second = torch.randn(2, 2, 6, 2)
    tokens = torch.tensor([[0, 1, 6], [0, 1, 4]])
    divergences = heads["span"].divergences(first, second, tokens)
    for row, length in enumerate((6, 4)):
        own = both(categorical, first[row, :length].T, second[row, :length].T).mean()
        torch.testing.assert_close(divergences[row], own)


def test_one_module_is_houlsby_and_several_equal_ones_are_too(tiny_backbone: Backbone, tiny_task: Task) -> None:
    losses = []
    for count in (1, 3):
        job = Job(tiny_backbone, tiny_task, replace(RECIPE, num_modules=count))
        assert (job.mixture is None) == (count == 1)
        with attached_to(tiny_backbone, [job]) as attached:
            losses.append(float(forward(tiny_backbone, attached, [job])[0][0].detach()))
    assert losses[0] == losses[1]


def test_a_step_trains_the_modules_that_were_drawn_and_no_others(tiny_backbone: Backbone, tiny_task: Task) -> None:
    job = Job(tiny_backbone, tiny_task, replace(RECIPE, **ADAMIX))  # type: ignore[arg-type]
    assert job.mixture is not None
    seen = set()
    for step in range(12):
        job.step = step
        job.mixture.choose(step)
        seen.add(tuple(id(deltas["layer.0.attn_out"].down) for deltas in job.mixture.passes))
    assert len(seen) > 3
    with attached_to(tiny_backbone, [job]) as attached:
        forward(tiny_backbone, attached, [job])[0][0].backward()
    for (place, part), modules in job.mixture.modules.items():
        drawn = {id(getattr(deltas[place], part)) for deltas in job.mixture.passes}
        for module in modules:
            assert bool(module.weight.grad.abs().sum() > 0) == (id(module) in drawn)


@pytest.mark.parametrize("method", [Houlsby(4), Pfeiffer(4)], ids=lambda method: method.name)
def test_the_file_holds_the_mean_of_the_modules(method: Method, tiny_backbone: Backbone, tiny_task: Task) -> None:
    recipe = replace(RECIPE, method=method, num_modules=3, epochs=1)
    job = Job(tiny_backbone, tiny_task, recipe)
    for _ in run_jobs(tiny_backbone, [job]):
        pass
    assert job.mixture is not None
    means = {at: torch.stack([m.weight.detach() for m in modules]) for at, modules in job.mixture.modules.items()}
    assert all(own.std(dim=0).max() > 0 for own in means.values()), "the modules have come apart"
    adapter, result = train(tiny_backbone, tiny_task, recipe)
    for (place, part), own in means.items():
        torch.testing.assert_close(adapter.tensors[f"{place}.{part}.weight"], own.mean(dim=0))
    plain, of_plain = train(tiny_backbone, tiny_task, replace(recipe, num_modules=1))
    assert {n: t.shape for n, t in adapter.tensors.items()} == {n: t.shape for n, t in plain.tensors.items()}
    assert result.parameters == of_plain.parameters
    assert adapter.method == plain.method


def test_the_settings_that_do_not_fit_are_refused(tiny_backbone: Backbone, tiny_task: Task) -> None:
    with pytest.raises(RecipeError, match="'lora' has none"):
        Job(tiny_backbone, tiny_task, replace(RECIPE, method=LoRA(2), num_modules=2))
    for wrong in ({"ema": 1.5}, {"ema": -0.1}, {"rdrop": -1}, {"num_modules": 0}, {"num_modules": True}):
        with pytest.raises(RecipeError, match=f"{next(iter(wrong))}=.* is out of range"):
            replace(RECIPE, **wrong)  # type: ignore[arg-type]


def test_all_kinds_of_task_train_with_two_passes(tiny_backbone: Backbone, tiny_task: Task) -> None:
    texts = tiny_task.train.texts[:16]
    stars = Rows(texts, targets=[float(number % 5) for number in range(16)])
    tags = Rows(texts, targets=[(number % 2, 2) for number in range(16)])
    jobs = {
        "stars": (Task("stars", "regression", (), "pearson", stars, stars), RECIPE),
        "tags": (Task("tags", "multilabel", ("a", "b", "c"), "micro_f1", tags, tags), RECIPE),
    }
    named = {name: (task, replace(recipe, epochs=1, **ADAMIX)) for name, (task, recipe) in jobs.items()}  # type: ignore[arg-type]
    assert not any(isinstance(outcome, RecipeError) for outcome in train_many(tiny_backbone, named).values())


def test_settings_at_their_default_are_in_no_json_and_no_key() -> None:
    new = {"ema", "rdrop", "num_modules"}
    assert new.isdisjoint(Recipe().to_json())
    assert new <= Recipe().settings().keys()
    changed = [replace(Recipe(), **own) for own in SETTINGS]  # type: ignore[arg-type]
    assert len({Recipe().key, *(recipe.key for recipe in changed)}) == 1 + len(SETTINGS)
    assert [Recipe.from_json(recipe.to_json()) for recipe in changed] == changed
