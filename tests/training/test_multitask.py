"""One adapter is trained on several tasks: with one task it is ordinary training; deltas are shared, heads are not."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from polytask.adapters.store import Store
from polytask.backbones.backbone import Backbone
from polytask.data.task import Answer, Rows, Task
from polytask.errors import RecipeError
from polytask.inference.predict import MultiTask
from polytask.methods import FullFineTuning, Houlsby, Probe
from polytask.training.checkpoint import Checkpoint
from polytask.training.loop import run_jobs, train
from polytask.training.multitask import MultitaskJob, train_multitask
from polytask.training.recipe import Recipe
from polytask.training.to_store import train_multitask_to_store

QUICK = Recipe(Houlsby(4), lr=1e-2, epochs=3, batch_size=8)


@pytest.fixture
def tasks(tiny_task: Task) -> list[Task]:
    """Two classes, a number, and spans."""
    texts = ["good film", "great film", "bad film", "awful film"] * 4
    stars = Rows(texts, targets=[10.0, 20.0, -10.0, -20.0] * 4)
    contexts = ["the film was good", "the plot was bad"] * 4
    answers = [(Answer("good", 13),), (Answer("bad", 13),)] * 4
    spans = Rows(["was it good or bad"] * 8, pairs=contexts, targets=answers)
    return [
        tiny_task,
        Task("stars", "regression", (), "pearson", stars, stars.take(range(8))),
        Task("where", "span", (), "span_f1", spans, spans.take(range(4))),
    ]


@pytest.mark.parametrize(
    "settings",
    [{}, {"method": FullFineTuning()}, {"ema": 0.9}, {"rdrop": 1.0}],
    ids=["houlsby", "full", "ema", "rdrop"],
)
def test_one_task_is_trained_to_the_bit_as_alone(
    settings: dict[str, Any], tiny_backbone: Backbone, tiny_task: Task
) -> None:
    recipe = replace(QUICK, lr=1e-3, **settings)
    alone, result = train(tiny_backbone, tiny_task, recipe)
    ((adapter, own),) = train_multitask(tiny_backbone, [tiny_task], recipe).values()
    assert adapter.tensor_digest == alone.tensor_digest
    assert adapter.header.recipe == alone.header.recipe
    assert own.history == result.history
    assert (own.validation, own.train["tokens"]) == (result.validation, result.train["tokens"])


def test_tasks_of_all_kinds_share_their_deltas_and_answer(
    tiny_backbone: Backbone, tasks: list[Task], tmp_path: Path
) -> None:
    runs = train_multitask_to_store(tiny_backbone, tasks, replace(QUICK, lr=2e-2, epochs=8), tmp_path)
    first, *others = [run.adapter for run in runs.values()]
    shared = {name: tensor for name, tensor in first.tensors.items() if not name.startswith("head.")}
    for adapter in others:
        assert all(torch.equal(adapter.tensors[name], tensor) for name, tensor in shared.items())
    assert runs["mood"].result.validation.score == 1.0
    assert runs["stars"].result.validation.score > 0.9
    assert runs["stars"].result.together == ["mood", "stars", "where"]
    assert runs["stars"].entry.header.result["together"] == ["mood", "stars", "where"]
    answers = MultiTask(tiny_backbone, Store(tmp_path)).predict(list(tasks[0].validation.texts), task="mood")
    assert [answer.label for answer in answers] == [tasks[0].labels[t] for t in tasks[0].validation.targets or ()]


def test_tasks_are_drawn_in_proportion_to_the_square_root_of_their_rows(
    tiny_backbone: Backbone, tiny_task: Task
) -> None:
    large = replace(tiny_task, name="large", train=tiny_task.train.take([row % 48 for row in range(480)]))
    small = replace(tiny_task, name="small", train=tiny_task.train.take(range(30)))
    job = MultitaskJob(tiny_backbone, [large, small], replace(QUICK, epochs=40))
    counts = Counter(number for number, _ in job._draws)
    assert sum(counts.values()) == job.num_steps == 40 * (60 + 4)
    assert counts[0] / counts[1] == pytest.approx(4, rel=0.1)
    for number, part in enumerate(job.parts):
        own = [step for task, step in job._draws if task == number]
        assert own == list(range(len(own))), part.name


def test_stopped_and_resumed_is_the_same_run(tiny_backbone: Backbone, tasks: list[Task], tmp_path: Path) -> None:
    whole = MultitaskJob(tiny_backbone, tasks, QUICK)
    for _ in run_jobs(tiny_backbone, [whole]):
        pass
    checkpoint = Checkpoint(tmp_path / "run.ckpt")
    first, second = (MultitaskJob(tiny_backbone, tasks, QUICK) for _ in range(2))
    for number, _ in enumerate(run_jobs(tiny_backbone, [first])):
        if number == 9:
            break
    checkpoint.write(tiny_backbone, [first])
    assert checkpoint.load(tiny_backbone, [second])
    for _ in run_jobs(tiny_backbone, [second]):
        pass
    assert torch.equal(whole.optimizer.flat, second.optimizer.flat)
    assert whole.history == second.history


def test_it_starts_from_an_adapter_and_others_start_from_it(tiny_backbone: Backbone, tasks: list[Task]) -> None:
    first, _ = train(tiny_backbone, tasks[0], QUICK)
    outcomes = train_multitask(tiny_backbone, tasks[:2], replace(QUICK, epochs=1), start=first)
    heads = {name: adapter.header.start["head"] for name, (adapter, _) in outcomes.items()}  # type: ignore[index]
    assert heads == {"mood": "taken", "stars": "fresh"}
    later, _ = train(tiny_backbone, tasks[2], QUICK, start=outcomes["stars"][0])
    assert later.header.start is not None


def test_what_cannot_be_shared_is_refused(tiny_backbone: Backbone, tiny_task: Task) -> None:
    for tasks, recipe, why in (
        ([], QUICK, "no task"),
        ([tiny_task, tiny_task], QUICK, "two tasks have one name"),
        ([tiny_task], Recipe(Probe()), "nothing to share"),
        ([tiny_task], replace(QUICK, num_modules=2), "num_modules is for the training of one task"),
    ):
        with pytest.raises(RecipeError, match=why):
            train_multitask(tiny_backbone, tasks, recipe)
