"""An answer does not depend on the other rows, nor on what else is loaded or stored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from polytask.adapters.store import Store
from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.data.task import Rows, Task
from polytask.errors import DataError, NoSuchAdapter, RouteError, WrongBackbone, WrongDepth
from polytask.inference.predict import MultiTask
from polytask.inference.prediction import Prediction
from polytask.methods import METHODS, FullFineTuning, Houlsby
from polytask.training.loop import train
from polytask.training.recipe import Recipe
from tests.tiny import save_tiny

TEXTS = ["good film", "the plot was not great at all", "awful", "you win", "they vote and it is bad", "a film"]


@pytest.fixture
def store(tiny_backbone: Backbone, tiny_task: Task, tmp_path: Path) -> Store:
    """A store with adapters of several methods, numbers of labels and kinds."""
    store = Store(tmp_path / "store")
    three = Rows(tiny_task.train.texts, targets=[row % 3 for row in range(len(tiny_task.train))])
    scores = Rows(tiny_task.train.texts, targets=[float(t) for t in tiny_task.train.targets or []])
    tasks = {
        "mood": (tiny_task, Houlsby(4)),
        "three": (
            replace(tiny_task, labels=("x", "y", "z"), train=three, validation=three, test=None),
            METHODS["lora"](),
        ),
        "stars": (
            Task("stars", "regression", (), "pearson", scores, scores),
            METHODS["ia3"](),
        ),
        "own": (tiny_task, FullFineTuning()),
    }
    for name, (task, method) in tasks.items():
        adapter, _ = train(tiny_backbone, replace(task, name=name), Recipe(method, lr=1e-2, epochs=2, batch_size=8))
        store.put(adapter)
    return store


def near(one: Prediction, other: Prediction) -> bool:
    same = (one.task, one.label, one.labels) == (other.task, other.label, other.labels)
    pairs = [(one.score or 0.0, other.score or 0.0), *zip((one.probs or {}).values(), (other.probs or {}).values())]
    return same and all(a == pytest.approx(b, abs=1e-5) for a, b in pairs)


def test_each_row_is_answered_by_its_own_task(tiny_backbone: Backbone, store: Store) -> None:
    multi = MultiTask(tiny_backbone, store)
    tasks = ["mood", "own", "three", "stars", "mood", "three"]
    mixed = multi.predict(TEXTS, tasks)
    for text, task, answer in zip(TEXTS, tasks, mixed, strict=True):
        assert answer.task == task
        assert near(answer, multi.predict([text], task)[0])
    assert set(mixed[2].probs or {}) == {"x", "y", "z"}
    assert sum((mixed[0].probs or {}).values()) == pytest.approx(1.0)
    assert mixed[3].score is not None
    assert mixed[3].label is None


def test_many_rows_come_back_in_order(tiny_backbone: Backbone, store: Store) -> None:
    multi = MultiTask(tiny_backbone, store)
    many = [TEXTS[row % len(TEXTS)] for row in range(500)]
    answers = multi.predict(many, "mood")
    first = multi.predict(TEXTS, "mood")
    assert all(near(answer, first[row % len(TEXTS)]) for row, answer in enumerate(answers))


def test_a_number_names_a_version_and_a_bare_name_the_latest(
    tiny_backbone: Backbone, tiny_task: Task, store: Store
) -> None:
    multi = MultiTask(tiny_backbone, store)
    before = multi.predict(TEXTS, "mood")
    adapter, _ = train(tiny_backbone, tiny_task, Recipe(Houlsby(4), lr=1e-2, epochs=3, batch_size=8, seed=9))
    store.put(adapter)
    after = multi.predict(TEXTS, "mood")
    assert [answer.probs for answer in after] != [answer.probs for answer in before]
    assert multi.predict(TEXTS, "mood@1") == before


def test_unknown_tasks_wrong_counts_and_other_backbones_are_refused(
    tiny_backbone: Backbone, store: Store, tmp_path: Path
) -> None:
    multi = MultiTask(tiny_backbone, store)
    with pytest.raises(NoSuchAdapter, match="Did you mean 'mood'"):
        multi.predict(TEXTS, "mod")
    with pytest.raises(RouteError, match="there are 6 texts and 2 tasks"):
        multi.predict(TEXTS, ["mood", "mood"])
    with pytest.raises(RouteError, match="pairs"):
        multi.predict(["a", ("b", "c")], "mood")
    assert multi.predict([], "mood") == []
    other = load_backbone(save_tiny(tmp_path / "other", seed=1), device="cpu", dtype="float32", pooling="mean")
    with pytest.raises(WrongBackbone, match="fingerprint"):
        MultiTask(other, store).predict(TEXTS, "mood")
    deeper = load_backbone(save_tiny(tmp_path / "deep", num_hidden_layers=3), device="cpu", dtype="float32")
    with pytest.raises(WrongDepth, match=r"2 layers.*3"):
        MultiTask(deeper, store).predict(TEXTS, "mood")


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ([""], "the text is empty, so there is nothing to answer"),
        (["good film", " \n"], "text 2 of 2 is empty"),
        (["good film", None], "text 2 of 2 is empty"),
        ([("good film", "\t")], "the second text is empty"),
        ([("good film", "a plot"), ("", "a plot")], "text 2 of 2 is empty"),
    ],
)
def test_an_empty_text_is_refused(tiny_backbone: Backbone, store: Store, texts: list[str], said: str) -> None:
    with pytest.raises(DataError, match=f"{said}.*Fill it in, or leave it out"):
        MultiTask(tiny_backbone, store).predict(texts, "mood")


def test_in_bf16_other_rows_change_an_answer_by_rounding_only(
    tiny_bert_folder: Path, tiny_task: Task, tmp_path: Path
) -> None:
    backbone = load_backbone(tiny_bert_folder, device="cpu", dtype="bfloat16", pooling="mean")
    adapter, _ = train(backbone, tiny_task, Recipe(Houlsby(4), lr=1e-2, epochs=3, batch_size=8))
    store = Store(tmp_path / "store")
    store.put(adapter)
    multi = MultiTask(backbone, store)
    together = multi.predict(TEXTS, "mood")
    for text, answer in zip(TEXTS, together, strict=True):
        alone = multi.predict([text], "mood")[0]
        assert (alone.probs or {})["good"] == pytest.approx((answer.probs or {})["good"], abs=2e-2)
    assert multi.predict(TEXTS, "mood") == together


def test_one_string_is_not_read_letter_by_letter(tiny_backbone: Backbone, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="one text is given, not a list of texts"):
        MultiTask(tiny_backbone, Store(tmp_path)).predict("good", task="mood")
