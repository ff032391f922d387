"""Texts longer than the maximum length: truncated, or split into windows."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from polytask.adapters.store import Store
from polytask.backbones.backbone import Backbone
from polytask.data.encoding import encode
from polytask.data.task import Rows, Task
from polytask.errors import RecipeError
from polytask.inference.predict import MultiTask
from polytask.methods import Houlsby
from polytask.training.job import Job
from polytask.training.loop import train
from polytask.training.recipe import Recipe
from tests.conftest import BAD, GOOD

LENGTH = 10
FILLER = "the plot and the actor and the film "
SPLIT = Recipe(Houlsby(8), lr=1e-2, epochs=8, batch_size=8, max_length=LENGTH, long="split")


@pytest.fixture
def long_task(tiny_task: Task) -> Task:
    """A task whose decisive words come after the first window."""
    texts = [2 * FILLER + text for text in (*GOOD, *BAD)]
    rows = Rows([*texts, *GOOD, *BAD] * 3, targets=(tiny_task.train.targets or [])[:24] * 3)
    return Task("long", "classification", ("bad", "good"), "accuracy", rows, rows.take(range(24)), rows.take(range(24)))


def test_windows_hold_every_token_and_overlap_by_a_quarter(tiny_backbone: Backbone) -> None:
    tokenizer = tiny_backbone.tokenizer
    text = " ".join("abcdefghijklmnopqrstuvwxyz")
    encoded = encode(tokenizer, Rows(["a", text, "b"]), LENGTH, "split")
    assert encoded.owners == [0, 1, 1, 1, 1, 2]
    assert encoded.num_rows == 3
    assert max(encoded.lengths) == LENGTH
    windows = [tokenizer.convert_ids_to_tokens(ids) for ids in encoded.ids[1:5]]
    assert all((window[0], window[-1]) == ("[CLS]", "[SEP]") for window in windows)
    contents = [window[1:-1] for window in windows]
    assert "".join(contents[0] + [token for window in contents[1:] for token in window[2:]]) == text.replace(" ", "")
    assert all(one[-2:] == other[:2] for one, other in itertools.pairwise(contents))


def test_short_texts_are_encoded_the_same_with_and_without_splitting(tiny_backbone: Backbone) -> None:
    rows = Rows(["good film", "a great plot"])
    split, cut = (encode(tiny_backbone.tokenizer, rows, LENGTH, long) for long in ("split", "truncate"))
    assert (split.ids, split.types, split.owners) == (cut.ids, cut.types, [0, 1])
    assert cut.owners is None


def test_pairs_cannot_be_split(tiny_backbone: Backbone, tiny_task: Task) -> None:
    pairs = replace(tiny_task, train=replace(tiny_task.train, pairs=tiny_task.train.texts))
    with pytest.raises(RecipeError, match="pairs of texts cannot be split"):
        Job(tiny_backbone, pairs, SPLIT)
    with pytest.raises(RecipeError, match="long='halve' is not known"):
        encode(tiny_backbone.tokenizer, Rows(["a"]), LENGTH, "halve")
    with pytest.raises(RecipeError, match="'truncate' or 'split'"):
        replace(SPLIT, long="halve")  # type: ignore[arg-type]


def test_each_window_is_trained_on_with_the_label_of_its_text(tiny_backbone: Backbone, long_task: Task) -> None:
    job = Job(tiny_backbone, long_task, replace(SPLIT, epochs=None))
    owners = job.train.owners or []
    assert len(job.targets) == len(job.train) > len(long_task.train)
    assert all(job.targets[at] == (long_task.train.targets or [])[row] for at, row in enumerate(owners))
    assert job.steps_an_epoch == -(-len(job.train) // 8)
    assert job.train.num_truncated == 0


def test_a_prediction_is_the_mean_over_windows_and_the_adapter_stores_the_setting(
    tiny_backbone: Backbone, long_task: Task, tmp_path: Path
) -> None:
    adapter, result = train(tiny_backbone, long_task, SPLIT)
    _, cut = train(tiny_backbone, long_task, replace(SPLIT, long="truncate"))
    assert adapter.header.recipe["long"] == "split"
    assert result.test is not None
    assert result.test.rows == 24
    assert result.validation.score > cut.validation.score
    store = Store(tmp_path)
    store.put(adapter)
    store.put(train(tiny_backbone, replace(long_task, name="cut"), replace(SPLIT, long="truncate", epochs=1))[0])
    multi = MultiTask(tiny_backbone, store)
    texts = list(long_task.validation.texts)
    answers = multi.predict(texts, "long")
    right = [
        answer.label == ("bad", "good")[target] for answer, target in zip(answers, long_task.validation.targets or [])
    ]
    assert sum(right) / len(right) == pytest.approx(result.validation.score)
    windows = encode(tiny_backbone.tokenizer, Rows(texts[:1]), LENGTH, "split").ids
    of_windows = [multi.predict([tiny_backbone.tokenizer.decode(ids[1:-1])], "long")[0].probs or {} for ids in windows]
    mean = torch.tensor([probs["good"] for probs in of_windows]).mean()
    assert (answers[0].probs or {})["good"] == pytest.approx(float(mean), abs=1e-5)


def test_each_text_is_encoded_by_the_settings_of_its_own_adapter(
    tiny_backbone: Backbone, long_task: Task, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    for name, changes in {
        "split": {},
        "cut": {"long": "truncate"},
        "whole": {"long": "truncate", "max_length": 40},
    }.items():
        store.put(train(tiny_backbone, replace(long_task, name=name), replace(SPLIT, epochs=1, **changes))[0])  # type: ignore[arg-type]
    multi = MultiTask(tiny_backbone, store)
    texts = list(long_task.validation.texts)[:9]
    tasks = ["split", "cut", "whole"] * 3
    for text, task, answer in zip(texts, tasks, multi.predict(texts, tasks)):
        alone = multi.predict([text], task)[0]
        assert answer.probs == pytest.approx(alone.probs, abs=1e-5)
    cut, beyond = multi.predict([texts[0], texts[0] + " awful bad"], "cut")
    assert cut.probs == beyond.probs
