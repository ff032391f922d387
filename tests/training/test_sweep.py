"""Each run of a sweep equals training alone; a killed or interrupted sweep continues without loss."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev

import pytest
import torch

import polytask
from polytask.adapters.adapter import Adapter
from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.data.metric_names import METRIC_KINDS
from polytask.data.task import Rows, Task
from polytask.errors import CheckpointError, RecipeError
from polytask.evaluation.metrics import METRICS
from polytask.methods import METHODS, Houlsby, LoRA, TopLayers
from polytask.training.events import Evaluated, Failed, Step
from polytask.training.fused import train_many
from polytask.training.grid import grid, in_words, varying
from polytask.training.loop import train
from polytask.training.recipe import Recipe
from polytask.training.result import Result, Score
from polytask.training.sweep import sweep
from polytask.training.sweep_result import Kept, Run, by_setting
from tests.conftest import BAD, GOOD

BASE = Recipe(Houlsby(4), lr=1e-2, epochs=2, batch_size=8)
DIVERGING = replace(BASE, method=TopLayers(1), lr=1e30, epochs=3)


SOURCE = Path(polytask.__file__).parents[1]


class Killed(BaseException):
    """Stops a sweep as SIGKILL does: nothing more is written."""


def killed_after(num_events: int) -> object:
    seen: list[object] = []

    def progress(event: object) -> None:
        seen.append(event)
        if len(seen) == num_events:
            raise Killed

    return progress


def digests(folder: Path) -> dict[str, str]:
    return {path.stem: Adapter.load(path).tensor_digest for path in folder.glob("*.safetensors")}


# -- grids ------------------------------------------------------------------------------------------------------------


def test_a_grid_is_every_combination_with_consecutive_seeds() -> None:
    recipes = grid(replace(BASE, seed=5), lr=(1e-3, 3e-3), size=(2, 8), epochs=(1, 2, 3), seeds=2)
    assert len(recipes) == len({recipe.key for recipe in recipes}) == 2 * 2 * 3 * 2
    assert {(r.lr, r.method, r.epochs, r.seed) for r in recipes} == {
        (lr, Houlsby(size), epochs, seed)
        for lr in (1e-3, 3e-3)
        for size in (2, 8)
        for epochs in (1, 2, 3)
        for seed in (5, 6)
    }


def test_what_a_grid_does_not_vary_stays_as_it_was() -> None:
    base = Recipe(LoRA(4, dropout=0.1), lr=2e-3, epochs=7, clip=0.5, patience=2)
    assert grid(base, seeds=1) == [base]
    assert grid(base, size=(2,), seeds=1) == [replace(base, method=LoRA(2, dropout=0.1))]
    assert varying(grid(base, lr=(1e-3, 3e-3), size=(2, 8), seeds=3)) == ["rank", "lr"]


@pytest.mark.parametrize("name", sorted(METHODS.keys() - {"houlsby", "pfeiffer", "parallel", "lora"}))
def test_a_method_without_a_size_has_none_to_vary(name: str) -> None:
    with pytest.raises(RecipeError, match=f"{name}.*no size to vary"):
        grid(Recipe(METHODS[name]()), size=(8,))


@pytest.mark.parametrize("seeds", [0, -1, 1.5])
def test_seeds_are_a_number_from_one(seeds: int) -> None:
    with pytest.raises(RecipeError, match=r"seeds=.* is out of range"):
        grid(BASE, seeds=seeds)


def test_settings_in_words() -> None:
    assert in_words({"lr": 3e-4, "size": 64}) == "lr 3e-4, size 64"
    assert in_words({"lr": 2.5e-3, "warmup": 0.1, "epochs": 3}) == "lr 2.5e-3, warmup 0.1, epochs 3"


# -- runs -------------------------------------------------------------------------------------------------------------


def test_each_run_equals_training_alone(tiny_bert_folder: Path, tiny_task: Task, tmp_path: Path) -> None:
    """In float64, adapters and private copies, of other sizes and lengths."""
    backbone = load_backbone(tiny_bert_folder, device="cpu", dtype="float64", pooling="mean")
    recipes = [
        *grid(BASE, lr=(1e-2, 3e-3), size=(3, 8), seeds=1),
        replace(BASE, method=LoRA(2, dropout=0.2), epochs=1, seed=7),
        replace(BASE, method=TopLayers(1), lr=1e-3),
    ]
    swept = sweep(backbone, tiny_task, recipes, folder=tmp_path)
    assert len(swept.runs) == len(recipes)
    for run in swept.runs:
        adapter, result = train(backbone, tiny_task, run.recipe)
        kept = Adapter.load(tmp_path / f"{run.key}.safetensors")
        for name, tensor in adapter.tensors.items():
            torch.testing.assert_close(kept.tensors[name], tensor, rtol=1e-6, atol=1e-9)
        assert run.result is not None
        assert run.result.validation == result.validation
        assert [epoch["loss"] for epoch in run.result.history] == pytest.approx(
            [epoch["loss"] for epoch in result.history], rel=1e-9
        )


def test_the_best_is_the_adapter_with_the_highest_validation_score(tiny_backbone: Backbone, tiny_task: Task) -> None:
    swept = sweep(tiny_backbone, tiny_task, grid(BASE, lr=(1e-5, 1e-2), seeds=2))
    assert swept.best.header.score == max(run.score or 0 for run in swept.runs) > swept.settings[-1].scores[0]
    assert swept.best.header.recipe == swept.best_run.recipe.to_json()
    assert swept.best_run.recipe.lr == 1e-2


def test_the_texts_of_a_task_are_tokenized_once_for_all_runs(
    tiny_backbone: Backbone, tiny_task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    plain = tiny_backbone.tokenizer

    class Counting:
        def __call__(self, texts: list[str], *rest: object, **options: object) -> object:
            asked.append(texts)
            return plain(texts, *rest, **options)

        def __getattr__(self, name: str) -> object:
            return getattr(plain, name)

    monkeypatch.setattr(tiny_backbone, "tokenizer", Counting())
    once = replace(BASE, epochs=1)
    sweep(tiny_backbone, tiny_task, grid(once, lr=(1e-3, 1e-2), seeds=2))
    assert tiny_task.test is not None
    parts = (tiny_task.train, tiny_task.validation, tiny_task.test)
    assert sorted(asked) == sorted(list(rows.texts) for rows in parts)
    asked.clear()
    train_many(tiny_backbone, {name: (tiny_task, replace(once, max_length=int(name))) for name in ("64", "32", "16")})
    assert len(asked) == 9


def test_only_the_best_run_is_tested_by_default(tiny_backbone: Backbone, tiny_task: Task, tmp_path: Path) -> None:
    recipes = grid(BASE, lr=(1e-5, 1e-2), seeds=2)
    swept = sweep(tiny_backbone, tiny_task, recipes, folder=tmp_path)
    tested = [run for run in swept.runs if run.result is not None and run.result.test is not None]
    assert [run.key for run in tested] == [swept.best_run.key]
    alone, result = train(tiny_backbone, tiny_task, swept.best_run.recipe)
    assert tested[0].result is not None
    assert tested[0].result.test == result.test
    assert swept.best.header.result["test"] == alone.header.result["test"]
    assert swept.best.header.score == alone.header.score
    others = sweep(tiny_backbone, tiny_task, recipes, folder=tmp_path, test="all")
    assert all(run.result is not None and run.result.test is not None for run in others.runs)
    assert others.best.header.digest == swept.best.header.digest
    with pytest.raises(RecipeError, match="test='some' is out of range"):
        sweep(tiny_backbone, tiny_task, recipes, test="some")  # type: ignore[arg-type]


def nearness(targets: Sequence[float], predictions: Sequence[float], num_labels: int) -> float:
    """The mean squared error, the higher the better: unlike a correlation, not blind to unit and offset."""
    return -fmean((target - given) ** 2 for target, given in zip(targets, predictions, strict=True))


@pytest.mark.parametrize("metric", ["pearson", "nearness"])
def test_a_regression_has_the_test_score_that_it_has_alone(
    tiny_backbone: Backbone, metric: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METRIC_KINDS, "nearness", ("regression",))
    monkeypatch.setitem(METRICS, "nearness", nearness)
    rows = Rows([*GOOD, *BAD] * 2, targets=([70.0] * len(GOOD) + [50.0] * len(BAD)) * 2)
    task = Task("stars", "regression", (), metric, rows, rows.take(range(12)), rows)
    swept = sweep(tiny_backbone, task, [BASE])
    _, result = train(tiny_backbone, task, BASE)
    assert swept.best_run.result is not None
    assert swept.best_run.result.test is not None
    assert result.test is not None
    assert swept.best_run.result.test.score == pytest.approx(result.test.score, rel=1e-4)


def test_results_record_padding_and_routing(tiny_backbone: Backbone, tiny_task: Task) -> None:
    events: list[object] = []
    twice = sweep(tiny_backbone, tiny_task, grid(replace(BASE, batch_size=24), seeds=2), progress=events.append)
    shares = {run.key: [e.padding for e in events if isinstance(e, Step) and e.job == run.key] for run in twice.runs}
    for run in twice.runs:
        assert run.result is not None
        assert run.result.train["routing"] == "grouped"
        assert run.result.train["padding"] == pytest.approx(fmean(shares[run.key]))
        assert 0 < run.result.train["padding"] < 1
    assert train(tiny_backbone, tiny_task, BASE)[1].train["routing"] == "looped"


def test_defaults_are_chosen_before_a_recipe_gets_its_key(tiny_backbone: Backbone, tiny_task: Task) -> None:
    quick = Recipe(Houlsby(4), batch_size=48, patience=1)
    (run,) = sweep(tiny_backbone, tiny_task, [quick]).runs
    assert (run.recipe.lr, run.recipe.epochs) == (1e-3, 30)
    with pytest.raises(RecipeError, match="a recipe is given twice"):
        sweep(tiny_backbone, tiny_task, [quick, replace(quick, lr=1e-3)])


def test_a_sweep_over_nothing_is_refused(tiny_backbone: Backbone, tiny_task: Task) -> None:
    with pytest.raises(RecipeError, match="there is no recipe"):
        sweep(tiny_backbone, tiny_task, [])


def test_a_budget_makes_runs_wait_and_changes_nothing(tiny_backbone: Backbone, tiny_task: Task, tmp_path: Path) -> None:
    recipes = grid(BASE, size=(3, 8), seeds=2)
    events: list[object] = []
    sweep(tiny_backbone, tiny_task, recipes, folder=tmp_path, budget_tokens=1, progress=events.append)
    order = [event.job for event in events if isinstance(event, Step)]
    assert order == [key for recipe in recipes for key in [recipe.key] * 12]
    assert digests(tmp_path) == {r.key: train(tiny_backbone, tiny_task, r)[0].tensor_digest for r in recipes}


# -- a run that diverges ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("others", [[replace(BASE, lr=1e30, epochs=5)], [DIVERGING]])
def test_a_run_that_diverges_is_a_result_and_harms_no_other(
    others: list[Recipe], tiny_backbone: Backbone, tiny_task: Task, tmp_path: Path
) -> None:
    events: list[object] = []
    swept = sweep(tiny_backbone, tiny_task, [*others, BASE], folder=tmp_path, progress=events.append)
    good, diverged = swept.runs
    assert (good.status, diverged.status) == ("finished", "diverged")
    assert "Lower the learning rate" in (diverged.failure or "")
    assert [event.job for event in events if isinstance(event, Failed)] == [diverged.key]
    alone, _ = train(tiny_backbone, tiny_task, BASE)
    for name, tensor in alone.tensors.items():
        torch.testing.assert_close(swept.best.tensors[name], tensor, rtol=1e-4, atol=1e-5)
    assert json.loads((tmp_path / f"{diverged.key}.json").read_text())["status"] == "diverged"
    assert not (tmp_path / f"{diverged.key}.safetensors").exists()
    assert swept.table()[-1]["score"] is None
    assert swept.table()[-1]["diverged"] == 1
    again = sweep(tiny_backbone, tiny_task, [*others, BASE], folder=tmp_path, progress=events.append)
    assert again.runs == swept.runs
    assert sum(isinstance(event, Failed) for event in events) == 1


def test_if_all_runs_diverge_there_is_no_best(tiny_backbone: Backbone, tiny_task: Task) -> None:
    swept = sweep(tiny_backbone, tiny_task, [DIVERGING])
    assert [run.status for run in swept.runs] == ["diverged"]
    with pytest.raises(RecipeError, match=r"no run of the sweep has a result: all diverged.*Lower the learning rate"):
        _ = swept.best
    with pytest.raises(RecipeError, match="diverged"):
        _ = swept.best_run


# -- killed and called again ------------------------------------------------------------------------------------------

SOME = [*grid(BASE, size=(3, 8), seeds=2), replace(BASE, epochs=4, seed=9)]


@pytest.fixture(scope="module")
def whole(tiny_bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an undisturbed sweep over ``SOME``, which has 89 events."""
    rows = Rows([*GOOD, *BAD] * 4, targets=([1] * len(GOOD) + [0] * len(BAD)) * 4)
    task = Task("mood", "classification", ("bad", "good"), "accuracy", rows, rows.take(range(12)), rows.take(range(12)))
    backbone = load_backbone(tiny_bert_folder, device="cpu", dtype="float32", pooling="mean")
    folder = tmp_path_factory.mktemp("whole")
    sweep(backbone, task, SOME, folder=folder)
    return folder


@pytest.mark.parametrize("num_events", [1, 60, 65, 80])
def test_a_killed_sweep_trains_what_is_missing(
    num_events: int, whole: Path, tiny_backbone: Backbone, tiny_task: Task, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    with pytest.raises(Killed):
        sweep(tiny_backbone, tiny_task, SOME, folder=broken, progress=killed_after(num_events))  # type: ignore[arg-type]
    over = {path.stem for path in broken.glob("*.json")}
    events: list[object] = []
    sweep(tiny_backbone, tiny_task, SOME, folder=broken, progress=events.append)
    assert {event.job for event in events[: len(over)] if isinstance(event, Kept)} == over
    assert {event.job for event in events if isinstance(event, Step)} == {recipe.key for recipe in SOME} - over
    assert digests(broken).keys() == digests(whole).keys()
    for key in digests(whole):
        one, other = (Adapter.load(folder / f"{key}.safetensors").tensors for folder in (whole, broken))
        for name, tensor in one.items():
            torch.testing.assert_close(other[name], tensor, rtol=1e-4, atol=1e-5)


def test_a_finished_sweep_trains_nothing_and_answers_the_same(
    whole: Path, tiny_backbone: Backbone, tiny_task: Task
) -> None:
    content = {path.name: path.read_bytes() for path in whole.iterdir()}
    assert content.keys() == {f"{r.key}.{ending}" for r in SOME for ending in ("json", "safetensors")}
    events: list[object] = []
    again = sweep(tiny_backbone, tiny_task, SOME, folder=whole, progress=events.append)
    assert [event for event in events if not isinstance(event, Kept)] == []
    assert again.best.tensor_digest == digests(whole)[again.best_run.key]
    assert {path.name: path.read_bytes() for path in whole.iterdir()} == content


def test_an_interrupted_sweep_continues_unfinished_runs(
    whole: Path, tiny_backbone: Backbone, tiny_task: Task, tmp_path: Path
) -> None:
    """Ctrl-C twice: in the first epochs, and after some runs have finished while another continues."""
    steps: list[Step] = []

    def interrupt_after(num_steps: int) -> object:
        def progress(event: object) -> None:
            if isinstance(event, Step):
                steps.append(event)
                if len(steps) == num_steps:
                    signal.raise_signal(signal.SIGINT)

        return progress

    for num_steps in (17, 66):
        with pytest.raises(KeyboardInterrupt):
            sweep(tiny_backbone, tiny_task, SOME, folder=tmp_path / "broken", progress=interrupt_after(num_steps))  # type: ignore[arg-type]
        assert (tmp_path / "broken" / "sweep.ckpt").exists()
    sweep(tiny_backbone, tiny_task, SOME, folder=tmp_path / "broken", progress=interrupt_after(0))  # type: ignore[arg-type]
    assert not (tmp_path / "broken" / "sweep.ckpt").exists()
    told = {(step.job, step.step) for step in steps}
    assert len(told) == len(steps)  # no step is taken twice
    assert 4 * 12 + 24 - len(told) == 3  # taken in the first interrupted round, and not reported
    assert digests(tmp_path / "broken") == digests(whole)


def test_recipes_can_be_added_to_a_folder(tiny_backbone: Backbone, tiny_task: Task, tmp_path: Path) -> None:
    sweep(tiny_backbone, tiny_task, SOME[:2], folder=tmp_path)
    events: list[object] = []
    swept = sweep(tiny_backbone, tiny_task, SOME[1:], folder=tmp_path, progress=events.append)
    assert {event.job for event in events if isinstance(event, Step)} == {recipe.key for recipe in SOME[2:]}
    assert {run.key for run in swept.runs} == {recipe.key for recipe in SOME[1:]}


def test_a_result_whose_adapter_is_gone_is_trained_again(
    tiny_backbone: Backbone, tiny_task: Task, tmp_path: Path
) -> None:
    sweep(tiny_backbone, tiny_task, SOME[:2], folder=tmp_path)
    (tmp_path / f"{SOME[0].key}.safetensors").unlink()
    events: list[object] = []
    sweep(tiny_backbone, tiny_task, SOME[:2], folder=tmp_path, progress=events.append)
    assert {event.job for event in events if isinstance(event, Step)} == {SOME[0].key}


def test_a_folder_of_other_data_or_another_backbone_is_refused(
    tiny_backbone: Backbone, tiny_task: Task, tiny_bert_folder: Path, tmp_path: Path
) -> None:
    sweep(tiny_backbone, tiny_task, [BASE], folder=tmp_path / "over")
    with pytest.raises(KeyboardInterrupt):
        sweep(
            tiny_backbone,
            tiny_task,
            [BASE],
            folder=tmp_path / "under-way",
            progress=lambda event: signal.raise_signal(signal.SIGINT),
        )
    other = replace(tiny_task, train=Rows(["a film"] * 8, targets=[0, 1] * 4))
    in_bf16 = load_backbone(tiny_bert_folder, device="cpu", dtype="bfloat16", pooling="mean")
    for folder in (tmp_path / "over", tmp_path / "under-way"):
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        with pytest.raises(CheckpointError, match=r"data was '\w+' and is '\w+'. Give another folder"):
            sweep(tiny_backbone, other, [BASE], folder=folder)
        with pytest.raises(CheckpointError, match="dtype was 'float32' and is 'bfloat16'"):
            sweep(in_bf16, tiny_task, [BASE], folder=folder)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("name", [f"{BASE.key}.json", "sweep.ckpt"])
@pytest.mark.parametrize("content", ["", "{}", "[]", '{"status": "finished"'])
def test_an_unreadable_file_in_the_folder_is_named(
    name: str, content: str, tiny_backbone: Backbone, tiny_task: Task, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(CheckpointError, match=rf"{name} is not .* Remove it"):
        sweep(tiny_backbone, tiny_task, [BASE], folder=tmp_path)
    assert (tmp_path / name).read_text() == content


# -- the table --------------------------------------------------------------------------------------------------------


def scored(recipe: Recipe, score: float | None) -> Run:
    if score is None:
        return Run(recipe, None, "diverged")
    empty = {"task": "t", "method": {}, "recipe": {}, "parameters": {"trained": 7}, "train": {}, "environment": {}}
    rest = {"test": None, "majority": None, "best_epoch": 1, "truncated": 0, "history": [], "label_counts": {}}
    return Run(recipe, Result(validation=Score("f1", score, 9), data_digest="", **empty, **rest))  # type: ignore[arg-type]


def test_settings_are_ranked_by_their_mean_over_seeds_and_the_diverged_come_last() -> None:
    scores = {1e-3: (0.7, 0.9, 0.8), 3e-3: (0.85, 0.85, 0.82), 1e-2: (0.99, None, 0.98), 3e-2: (None, None, None)}
    recipes = grid(BASE, lr=tuple(scores), seeds=3)
    runs = [scored(recipe, score) for recipe, score in zip(recipes, (s for own in scores.values() for s in own))]
    first, second, third, last = by_setting(runs)
    assert [s.values for s in (first, second, third, last)] == [{"lr": lr} for lr in (3e-3, 1e-3, 1e-2, 3e-2)]
    assert second.mean == pytest.approx(fmean(scores[1e-3]))  # type: ignore[arg-type]
    assert second.sem == pytest.approx(stdev((0.7, 0.9, 0.8)) / 3**0.5)
    assert (third.num_diverged, third.mean) == (1, pytest.approx(0.985))
    assert (last.num_diverged, last.mean, last.sem) == (3, None, None)


def test_one_seed_has_no_standard_error(tiny_backbone: Backbone, tiny_task: Task) -> None:
    (row,) = sweep(tiny_backbone, tiny_task, [replace(BASE, epochs=1)]).table()
    assert row["sem"] is None
    assert set(row) == {"score", "sem", "runs", "diverged", "parameters"}
    assert row["runs"] == 1
    assert row["parameters"] > 0


def test_events_name_runs_by_their_recipes_keys(tiny_backbone: Backbone, tiny_task: Task) -> None:
    events: list[object] = []
    sweep(tiny_backbone, tiny_task, SOME[:2], progress=events.append)
    keys = {recipe.key for recipe in SOME[:2]}
    assert {event.job for event in events if isinstance(event, Step | Evaluated | Kept)} == keys
    assert [type(event) for event in events[-2:]] == [Evaluated, Kept]


def test_the_public_names_are_functions_whatever_was_imported_before() -> None:
    first = "polytask.training.sweep, polytask.training.tune, polytask.training.grid"
    code = f"import {first}; import polytask as pt; print(callable(pt.sweep), callable(pt.grid), callable(pt.tune))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=SOURCE)
    assert done.stdout.split() == ["True"] * 3
