"""Training learns, keeps the best epoch, is reproducible, and changes nothing but the adapter."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from polytask.adapters.adapter import Adapter
from polytask.adapters.store import Store
from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.data.task import Rows, Task
from polytask.errors import RecipeError
from polytask.inference.predict import MultiTask
from polytask.methods import METHODS, FullFineTuning, Houlsby, LayerNormOnly, Method, TopLayers
from polytask.training.class_weights import class_weights, log_priors
from polytask.training.events import Evaluated, Step
from polytask.training.job import Job
from polytask.training.loop import run_jobs, train
from polytask.training.recipe import Recipe

QUICK = Recipe(method=Houlsby(8), lr=1e-2, epochs=3, batch_size=8)
LEARNING = Recipe(method=METHODS["lora"](), lr=1e-2, epochs=20, batch_size=8)


def state_of(backbone: Backbone) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in backbone.model.state_dict().items()}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_learns_and_leaves_every_bit_of_the_backbone(
    name: str, tiny_backbone: Backbone, tiny_task: Task
) -> None:
    backbone = tiny_backbone
    before = state_of(backbone)
    recipe = Recipe(method=METHODS[name](), lr=1e-2, epochs=10, batch_size=8)
    adapter, result = train(backbone, tiny_task, recipe)
    assert result.validation.score == 1.0
    assert state_of(backbone).keys() == before.keys()
    assert all(torch.equal(tensor, before[key]) for key, tensor in state_of(backbone).items())
    assert not backbone.model.training
    assert not any(parameter.requires_grad for parameter in backbone.model.parameters())
    assert sum(tensor.numel() for tensor in adapter.tensors.values()) == (
        result.parameters["trained"] + result.parameters["head"]
    )


@pytest.mark.parametrize("method", [Houlsby(8), LayerNormOnly(), TopLayers(1), FullFineTuning()])
def test_a_saved_adapter_has_the_score_of_training(
    method: Method, tiny_backbone: Backbone, tiny_task: Task, tmp_path: Path
) -> None:
    recipe = replace(QUICK, method=method, lr=1e-3)
    adapter, result = train(tiny_backbone, tiny_task, recipe)
    store = Store(tmp_path / "store")
    store.put(adapter)
    predictions = MultiTask(tiny_backbone, store).predict(tiny_task.validation.texts, task="mood")
    right = [
        p.label == ("bad", "good")[t] for p, t in zip(predictions, tiny_task.validation.targets or [], strict=True)
    ]
    assert sum(right) / len(right) == pytest.approx(result.validation.score)
    assert result.test is not None
    assert result.test.score == pytest.approx(result.validation.score)  # the same rows


def test_equal_seeds_give_equal_tensors_and_other_seeds_others(tiny_backbone: Backbone, tiny_task: Task) -> None:
    first, _ = train(tiny_backbone, tiny_task, QUICK)
    again, _ = train(tiny_backbone, replace(tiny_task, name="renamed"), QUICK)
    other, _ = train(tiny_backbone, tiny_task, replace(QUICK, seed=1))
    assert first.tensor_digest == again.tensor_digest != other.tensor_digest


def test_the_best_epoch_is_kept(tiny_backbone: Backbone, tiny_task: Task) -> None:
    wrong = Rows(tiny_task.train.texts, targets=[1 - target for target in tiny_task.train.targets or []])
    task = replace(tiny_task, validation=wrong)  # the better it learns, the worse it scores
    events = []
    _, result = train(tiny_backbone, task, replace(LEARNING, epochs=6), progress=events.append)
    scores = [event.score for event in events if isinstance(event, Evaluated)]
    assert len(scores) == 6
    assert result.validation.score == max(scores)
    assert result.best_epoch == scores.index(max(scores)) + 1
    assert scores[-1] < max(scores)
    steps = [event for event in events if isinstance(event, Step)]
    assert [event.step for event in steps] == list(range(1, 37))
    assert steps[-1].tokens == 6 * sum(len(tiny_backbone.tokenizer(text)["input_ids"]) for text in task.train.texts)


def test_patience_ends_training_early(tiny_backbone: Backbone, tiny_task: Task) -> None:
    _, result = train(tiny_backbone, tiny_task, replace(LEARNING, epochs=50, patience=2))
    assert result.validation.score > 0.8
    assert result.train["epochs"] == result.best_epoch + 2 < 50


def test_jobs_trained_together_equal_each_trained_alone(tiny_bert_folder: Path, tiny_task: Task) -> None:
    """In float64 with dropout, after several steps, for different methods, sizes, rates, lengths and batch sizes."""
    backbone = load_backbone(tiny_bert_folder, device="cpu", dtype="float64")
    assert backbone.config.hidden_dropout_prob == 0.1
    long = Rows(
        ["the plot was not great at all and " + text for text in tiny_task.train.texts], targets=tiny_task.train.targets
    )
    three = Rows(tiny_task.train.texts, targets=[row % 3 for row in range(len(tiny_task.train))])
    jobs = {
        "a": (tiny_task, Recipe(Houlsby(5), lr=1e-2, epochs=1, batch_size=8)),
        "b": (replace(tiny_task, train=long), Recipe(Houlsby(8), lr=3e-3, epochs=2, batch_size=5, clip=0.1, seed=3)),
        "c": (
            replace(tiny_task, train=three, labels=("x", "y", "z")),
            Recipe(METHODS["lora"](dropout=0.2), lr=1e-2, epochs=1, batch_size=6),
        ),
        "d": (tiny_task, Recipe(LayerNormOnly(layers=1), lr=1e-2, epochs=1, batch_size=4)),
    }

    def trained(names: str) -> dict[str, torch.Tensor]:
        some = [Job(backbone, *jobs[name], name=name) for name in names]
        for _ in run_jobs(backbone, some):
            pass
        return {job.name: job.optimizer.flat.clone() for job in some}

    together = trained("abcd")
    for name in jobs:
        torch.testing.assert_close(together[name], trained(name)[name], rtol=0, atol=1e-9)
        assert together[name].dtype == torch.float64


def test_divergence_is_an_error_that_names_the_learning_rate(tiny_backbone: Backbone, tiny_task: Task) -> None:
    before = state_of(tiny_backbone)
    with pytest.raises(RecipeError, match=r"diverged at step .* Lower the learning rate"):
        train(tiny_backbone, tiny_task, replace(QUICK, method=FullFineTuning(), lr=1e30, epochs=30))
    assert all(torch.equal(tensor, before[key]) for key, tensor in state_of(tiny_backbone).items())


def test_logit_adjustment_is_the_loss_of_logits_with_the_log_of_each_share(
    tiny_backbone: Backbone, tiny_task: Task
) -> None:
    rows = tiny_task.train.take([*range(6), *range(6, 9)])  # six of one class, three of the other
    task = replace(tiny_task, train=rows)
    shares = torch.tensor([3 / 9, 6 / 9], dtype=torch.float64)
    torch.testing.assert_close(log_priors(task), shares.log())
    recipe = replace(QUICK, class_weights="logit-adjusted", head_dropout=0.0)
    adjusted, plain = (Job(tiny_backbone, task, own) for own in (recipe, replace(recipe, class_weights=None)))
    vectors, taken = torch.randn(9, tiny_backbone.hidden), list(range(9))
    logits = plain.live.head(vectors) + shares.log().float()
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor(list(rows.targets or ())))
    torch.testing.assert_close(adjusted.loss(vectors, taken), expected)
    assert not torch.equal(plain.loss(vectors, taken), expected)
    assert recipe.key != replace(recipe, class_weights=None).key


def test_class_weights_are_inverse_frequencies_with_a_mean_of_one(tiny_task: Task) -> None:
    rows = Rows(["a"] * 10, targets=[0] * 8 + [1] * 2)
    weights = class_weights(replace(tiny_task, train=rows))
    assert weights == [10 / 16, 10 / 4]
    assert sum(weights[t] for t in rows.targets or []) / 10 == pytest.approx(1.0)


def test_regression_answers_in_the_unit_of_its_targets(tiny_backbone: Backbone, tmp_path: Path) -> None:
    texts = ["good film", "great film", "bad film", "awful film"] * 10
    rows = Rows(texts, targets=[1010.0, 1020.0, 990.0, 980.0] * 10)
    task = Task("stars", "regression", (), "pearson", rows, rows.take(range(8)))
    adapter, result = train(tiny_backbone, task, LEARNING)
    assert result.validation.score > 0.95
    store = Store(tmp_path / "store")
    store.put(adapter)
    scores = [p.score for p in MultiTask(tiny_backbone, store).predict(texts[:4], task="stars")]
    assert scores == pytest.approx([1010, 1020, 990, 980], abs=6)


def test_several_labels_may_hold_at_once(tiny_backbone: Backbone, tmp_path: Path) -> None:
    texts = ["good film", "good plot", "bad film", "the plot"] * 10
    rows = Rows(texts, targets=[(0, 1), (0,), (1,), ()] * 10)
    task = Task("about", "multilabel", ("good", "film"), "micro_f1", rows, rows.take(range(8)))
    adapter, result = train(tiny_backbone, task, LEARNING)
    assert result.validation.score == 1.0
    store = Store(tmp_path / "store")
    store.put(adapter)
    answers = [p.labels for p in MultiTask(tiny_backbone, store).predict(texts[:4], task="about")]
    assert answers == [("good", "film"), ("good",), ("film",), ()]


def test_the_papers_recipe_is_to_the_letter() -> None:
    recipe = Recipe.paper()
    assert recipe.method == Houlsby(64, activation="gelu_tanh", init_std=1e-2)
    assert (recipe.batch_size, recipe.warmup, recipe.clip, recipe.max_length) == (32, 0.1, 1.0, 128)
    assert (recipe.weight_decay, recipe.epsilon, recipe.bias_correction, recipe.head_dropout) == (
        0.01,
        1e-6,
        False,
        0.1,
    )


def test_a_recipe_reads_back_from_its_json_and_has_a_key_of_its_content() -> None:
    recipe = Recipe(method=Houlsby(16, layers=(0, 2)), lr=1e-4, seed=7)
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert recipe.key == Recipe.from_json(recipe.to_json()).key != replace(recipe, seed=8).key


@pytest.mark.parametrize(
    "wrong", [{"lr": 0.0}, {"lr": math.nan}, {"epochs": 0}, {"batch_size": 0}, {"max_length": 2}, {"patience": 0}]
)
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(RecipeError, match=next(iter(wrong))):
        Recipe(**wrong)  # type: ignore[arg-type]


def test_adapters_of_earlier_tasks_answer_the_same_bits_after_later_ones(
    tiny_backbone: Backbone, tiny_task: Task, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    first, _ = train(tiny_backbone, tiny_task, QUICK)
    entry = store.put(first)
    bytes_before = Path(entry.path).read_bytes()
    multi = MultiTask(tiny_backbone, store)
    texts = list(tiny_task.validation.texts)
    before = multi.predict(texts, task="mood")
    second, _ = train(tiny_backbone, replace(tiny_task, name="other"), replace(QUICK, seed=4))
    store.put(second)
    multi.predict(texts, task="other")
    assert multi.predict(texts, task="mood") == before
    assert MultiTask(tiny_backbone, store).predict(texts, task="mood") == before
    store.remove("other")
    assert multi.predict(texts, task="mood") == before
    assert Path(entry.path).read_bytes() == bytes_before
    assert Adapter.load(entry.path).header.digest == first.header.digest
