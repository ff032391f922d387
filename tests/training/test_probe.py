"""A probe is an adapter like others: stored, loaded, mixed; nothing but its head differs from the frozen backbone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from polytask.adapters.adapter import Adapter
from polytask.adapters.store import Store
from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.data.encoding import encode
from polytask.data.task import Rows, Task
from polytask.errors import RecipeError
from polytask.evaluation.linear_probe import fit_probe
from polytask.inference.predict import MultiTask
from polytask.inference.vectors import vectors_of
from polytask.methods import Houlsby, Probe
from polytask.training.fused import train_many
from polytask.training.grid import grid
from polytask.training.loop import train
from polytask.training.recipe import Recipe
from polytask.training.sweep import sweep
from polytask.training.tune import tune
from tests.conftest import BAD, GOOD

TEXTS = [*GOOD, *BAD, "you win free cash"]


def test_the_head_is_the_fit_on_the_frozen_vectors(tiny_backbone: Backbone, tiny_task: Task) -> None:
    adapter, result = train(tiny_backbone, tiny_task, Recipe(Probe()))
    vectors = vectors_of(tiny_backbone, encode(tiny_backbone.tokenizer, tiny_task.train, 256))
    fit = fit_probe("classification", vectors.numpy(), list(tiny_task.train.targets or ()), 2)
    assert set(adapter.tensors) == {"head.weight", "head.bias"}
    torch.testing.assert_close(adapter.tensors["head.weight"].double(), torch.from_numpy(fit.weight), rtol=0, atol=1e-5)
    assert (result.validation.score, result.parameters["trained"]) == (1.0, 0)
    assert Adapter.from_bytes(adapter.to_bytes()).header == adapter.header


@pytest.mark.parametrize("architecture", ["bert", "modernbert"])
def test_it_answers_in_a_batch_as_alone_and_as_in_training(
    architecture: str, folder_of: Callable[[str], Path], tiny_task: Task, tmp_path: Path
) -> None:
    backbone = load_backbone(folder_of(architecture), device="cpu", dtype="float32", pooling="mean")
    store = Store(tmp_path)
    numbers = Rows(tiny_task.train.texts, targets=[float(len(text)) for text in tiny_task.train.texts])
    several = Rows(tiny_task.train.texts, targets=[(0, 1) if t else () for t in tiny_task.train.targets or ()])
    tasks = {
        "mood": (tiny_task, Recipe(Probe())),
        "length": (Task("length", "regression", (), "pearson", numbers, numbers), Recipe(Probe())),
        "both": (Task("both", "multilabel", ("x", "y"), "micro_f1", several, several), Recipe(Probe())),
        "houlsby": (replace(tiny_task, name="houlsby"), Recipe(Houlsby(4), lr=1e-2, epochs=1)),
    }
    outcomes = train_many(backbone, tasks, budget_tokens=1000)
    for name, outcome in outcomes.items():
        assert not isinstance(outcome, RecipeError)
        store.put(outcome[0])
        if name != "houlsby":
            assert outcome[1].validation.score > 0.9
    multi = MultiTask(backbone, store)
    names = [list(tasks)[row % len(tasks)] for row in range(len(TEXTS))]
    for text, name, answer in zip(TEXTS, names, multi.predict(TEXTS, names), strict=True):
        (alone,) = multi.predict([text], name)
        assert (answer.label, answer.labels) == (alone.label, alone.labels)
        assert (answer.score or 0.0) == pytest.approx(alone.score or 0.0, abs=1e-4)
        assert list((answer.probs or {}).values()) == pytest.approx(list((alone.probs or {}).values()), abs=1e-5)


def test_no_gradient_reaches_the_backbone_and_no_bit_of_it_changes(tiny_backbone: Backbone, tiny_task: Task) -> None:
    before = {name: own.clone() for name, own in tiny_backbone.model.state_dict().items()}
    train(tiny_backbone, tiny_task, Recipe(Probe()))
    assert all(p.grad is None and not p.requires_grad for p in tiny_backbone.model.parameters())
    assert all(torch.equal(own, before[name]) for name, own in tiny_backbone.model.state_dict().items())


def test_what_a_probe_cannot_do_is_refused(tiny_backbone: Backbone, tiny_task: Task) -> None:
    with pytest.raises(RecipeError, match="nothing to tune"):
        tune(tiny_backbone, tiny_task, Recipe(Probe()))
    with pytest.raises(RecipeError, match="cannot find spans"):
        Recipe(Probe()).fitted("span", 64)


def test_rate_and_epochs_are_as_if_not_given_and_a_sweep_takes_it(tiny_backbone: Backbone, tiny_task: Task) -> None:
    assert Recipe(Probe(), lr=1e-2, epochs=7).resolved(100, "classification") == replace(Recipe(Probe()), epochs=1)
    swept = sweep(tiny_backbone, tiny_task, [*grid(Recipe(Probe()), seeds=1)])
    assert swept.best.method == Probe()


def test_a_probe_is_scored_beside_another_method_where_that_is_asked(tiny_backbone: Backbone, tiny_task: Task) -> None:
    recipe = Recipe(Houlsby(4), lr=1e-2, epochs=1)
    adapter, result = train(tiny_backbone, tiny_task, recipe, probe=True)
    _, alone = train(tiny_backbone, tiny_task, Recipe(Probe()))
    assert alone.test is not None
    assert (result.probe or {})["score"] == alone.test.score
    assert adapter.header.result["probe"]["rows"] == 12
    plain, without = train(tiny_backbone, tiny_task, recipe)
    assert without.probe is None
    assert "probe" not in plain.header.result
    assert plain.tensor_digest == adapter.tensor_digest


def test_many_rows_are_said_to_take_long(
    tiny_backbone: Backbone, tiny_task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polytask.training.probe.MAX_ROWS", 40)
    _, result = train(tiny_backbone, tiny_task, Recipe(Houlsby(4), epochs=1), probe=True)
    assert result.probe == {"note": "no probe was fitted: 48 training rows are more than 40"}
