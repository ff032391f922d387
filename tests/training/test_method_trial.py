"""A probe or another method, chosen by cross-validation: the folds, the scores, the choice, and resuming."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from polytask.backbones.backbone import Backbone
from polytask.data.task import Rows, Task
from polytask.errors import RecipeError
from polytask.methods import Houlsby, Probe
from polytask.training.checkpoint import Checkpoint
from polytask.training.job import Job
from polytask.training.loop import run_jobs, train
from polytask.training.method_trial import FOLDS, choose_method, folds_of, has_few_rows
from polytask.training.recipe import Recipe
from polytask.training.to_store import train_to_store
from tests.cli.test_cli import refused, succeeded
from tests.conftest import BAD, GOOD

RECIPE = Recipe(Houlsby(4), lr=1e-2, epochs=1, batch_size=8)


@pytest.fixture(scope="module")
def few() -> Task:
    """Two classes with 20 rows each."""
    rows = Rows([f"{text} {i}" for i in range(5) for text in (*GOOD[:4], *BAD[:4])], targets=([1] * 4 + [0] * 4) * 5)
    return Task("mood", "classification", ("bad", "good"), "accuracy", rows, rows.take(range(8)))


def test_every_row_is_held_out_once_and_classes_are_spread_evenly(few: Task) -> None:
    folds = folds_of(few, seed=0)
    assert len(folds) == FOLDS
    assert sorted(text for fold in folds for text in fold.validation.texts) == sorted(few.train.texts)
    for fold in folds:
        assert {*fold.train.texts}.isdisjoint(fold.validation.texts)
        assert sorted(fold.validation.targets or ()) == [0] * 4 + [1] * 4
    assert [fold.validation.texts for fold in folds_of(few, seed=0)] == [fold.validation.texts for fold in folds]
    assert [fold.validation.texts for fold in folds_of(few, seed=1)] != [fold.validation.texts for fold in folds]


def test_numbers_are_spread_evenly_and_two_rows_have_no_folds(few: Task) -> None:
    numbers = Rows(few.train.texts, targets=[float(row) for row in range(40)])
    for fold in folds_of(Task("length", "regression", (), "pearson", numbers, numbers), seed=0):
        lower = [target for target in fold.validation.targets or () if float(target) < 20]  # type: ignore[arg-type]
        assert len(lower) == 4
    assert folds_of(replace(few, train=few.train.take([0, 4])), seed=0) == []


def test_a_score_is_that_of_the_last_epoch_on_rows_that_were_held_out(tiny_backbone: Backbone, few: Task) -> None:
    chosen = choose_method(tiny_backbone, few, RECIPE)
    right = 0
    for fold in folds_of(few, RECIPE.seed):
        job = Job(tiny_backbone, fold, RECIPE, "alone")
        for _ in run_jobs(tiny_backbone, [job]):
            pass
        right += round(job.history[-1]["score"] * len(fold.validation))
    assert [trial.name for trial in chosen.trials] == ["probe", "houlsby"]
    assert chosen.trials[1].score == pytest.approx(right / 40)


def test_another_method_is_chosen_if_it_leads_by_more_than_a_standard_error(tiny_backbone: Backbone, few: Task) -> None:
    chosen = choose_method(tiny_backbone, few, replace(RECIPE, lr=1e-9))  # it answers every text alike
    assert chosen.trials[0].score > chosen.trials[1].score
    assert chosen.recipe.method == Probe()
    assert "the method is probe" in chosen.why
    same = choose_method(tiny_backbone, few, replace(RECIPE, lr=1e-9, head_start="probe"))
    assert same.trials[0].score == same.trials[1].score
    assert same.recipe.method == Probe()


@pytest.mark.parametrize(("num_better", "name"), [(2, "probe"), (3, "houlsby"), (12, "houlsby")])
def test_the_lead_of_a_few_rows_is_not_enough(
    num_better: int, name: str, tiny_backbone: Backbone, few: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = [target for fold in folds_of(few, RECIPE.seed) for target in fold.validation.targets or ()]
    worse = [1 - int(target) if row < num_better else target for row, target in enumerate(truth)]  # type: ignore[arg-type]
    monkeypatch.setattr(
        "polytask.training.method_trial._answers",
        lambda _, __, recipe, ___: worse if isinstance(recipe.method, Probe) else truth,
    )
    chosen = choose_method(tiny_backbone, few, RECIPE)
    assert chosen.recipe.method.name == name
    assert ("which is within a standard error" in chosen.why) == (name == "probe")


def test_what_cannot_be_compared_is_said(tiny_backbone: Backbone, few: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = choose_method(tiny_backbone, replace(few, train=few.train.take([0, 4])), RECIPE)
    assert (chosen.recipe.method, chosen.trials) == (Probe(), ())
    assert "too few rows" in chosen.why
    monkeypatch.setattr("polytask.training.method_trial.MAX_ROWS", 39)
    with pytest.raises(RecipeError, match="cross-validation takes too long"):
        choose_method(tiny_backbone, few, RECIPE)


def test_few_rows_are_counted_per_label(few: Task) -> None:
    assert has_few_rows(few)
    many = Rows([*few.train.texts] * 4, targets=[*(few.train.targets or ())] * 4)
    assert not has_few_rows(replace(few, train=many))
    numbers = Rows(few.train.texts, targets=[float(row) for row in range(40)])
    assert not has_few_rows(Task("length", "regression", (), "pearson", numbers, numbers))


def test_the_chosen_method_is_trained_stored_and_resumed(tiny_backbone: Backbone, few: Task, tmp_path: Path) -> None:
    notes: list[str] = []
    recipe = replace(RECIPE, lr=1e-9)
    run = train_to_store(tiny_backbone, few, recipe, tmp_path, choose=True, notify=notes.append)
    alone, _ = train(tiny_backbone, few, replace(recipe, method=Probe()))
    assert run.adapter.tensor_digest == alone.tensor_digest
    assert run.method is not None
    assert notes == [run.method.why]
    kept = tmp_path / "kept.ckpt"
    Checkpoint(kept).write(tiny_backbone, [Job(tiny_backbone, few, RECIPE)])
    resumed = train_to_store(tiny_backbone, few, recipe, tmp_path, choose=True, checkpoint=kept, resume=True)
    assert (resumed.method, resumed.result.method["name"]) == (None, "houlsby")


def test_train_chooses_the_method_of_few_rows_unless_options_name_one(tiny_bert_folder: Path, tmp_path: Path) -> None:
    rows = tmp_path / "few.csv"
    texts = [
        (f"{text} {i}", label) for i in range(4) for label, own in (("good", GOOD), ("bad", BAD)) for text in own[:3]
    ]
    rows.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in texts))
    how = ("train", rows, "--backbone", tiny_bert_folder, "--store", tmp_path / "store", "--json")
    chosen = json.loads(succeeded(*how))
    trials = {trial["name"]: trial["score"] for trial in chosen["method_trial"]["trials"]}
    leads = trials["houlsby"] > trials["probe"] and chosen["method_trial"]["p_value"] < 0.32
    assert chosen["method"] == ("houlsby" if leads else "probe")
    given = json.loads(succeeded(*how, "--epochs", 1, "--size", 4))
    assert (given["method"], "method_trial" in given) == ("houlsby", False)
    asked = json.loads(succeeded(*how, "--method", "auto", "--epochs", 1, "--size", 4))
    assert asked["method_trial"]["trials"][1]["name"] == "houlsby"
    assert "--method auto chooses the method of one training" in refused(*how, "--method", "auto", "--tune")
