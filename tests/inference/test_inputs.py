"""Texts are answered however they are held, and a generator as its answers are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from datasets import Dataset

from polytask.adapters.store import Store
from polytask.backbones.backbone import Backbone
from polytask.data.task import Task
from polytask.errors import DataError, NoSuchAdapter, RouteError
from polytask.inference.predict import MultiTask
from polytask.inference.stream import CHUNK_ROWS
from polytask.methods import Houlsby
from polytask.training.loop import train
from polytask.training.recipe import Recipe
from tests.conftest import BAD, GOOD

TEXTS = [*GOOD, *BAD]
HELD: dict[str, Callable[[], Any]] = {
    "a tuple": lambda: tuple(TEXTS),
    "a Series": lambda: pd.Series(TEXTS),
    "an array": lambda: np.array(TEXTS),
    "a column of Arrow": lambda: pa.chunked_array([TEXTS]),
    "a DataFrame of the columns of the training": lambda: pd.DataFrame({"review": TEXTS, "text": "other"}),
    "a DataFrame of usual names": lambda: pd.DataFrame({"id": range(12), "sentence": TEXTS}),
    "a DataFrame of one column": lambda: pd.DataFrame({"what": TEXTS}),
    "an Arrow table": lambda: pa.table({"review": TEXTS}),
    "a data set": lambda: Dataset.from_dict({"review": TEXTS}),
    "a column of a data set": lambda: Dataset.from_dict({"review": TEXTS})["review"],
    "dicts": lambda: [{"review": text} for text in TEXTS],
    "a generator": lambda: (text for text in TEXTS),
    "a generator of dicts": lambda: ({"review": text} for text in TEXTS),
    "an iterable data set": lambda: Dataset.from_dict({"review": TEXTS}).to_iterable_dataset(),
}


@pytest.fixture
def multi(tiny_backbone: Backbone, tiny_task: Task, tmp_path: Path) -> MultiTask:
    store = Store(tmp_path / "store")
    task = replace(tiny_task, columns={"text": "review", "text_pair": None, "label": "label"})
    store.put(train(tiny_backbone, task, Recipe(Houlsby(4), lr=1e-2, epochs=2, batch_size=8))[0])
    return MultiTask(tiny_backbone, store)


@pytest.mark.parametrize("held", HELD)
def test_answers_do_not_depend_on_how_texts_are_held(held: str, multi: MultiTask) -> None:
    assert list(multi.predict(HELD[held](), "mood")) == multi.predict(TEXTS, "mood")


def test_a_generator_is_read_only_as_far_as_its_answers_are_asked_for(multi: MultiTask) -> None:
    taken = []

    def endless() -> Iterator[str]:
        while True:
            taken.append("good film")
            yield taken[-1]

    answers = multi.predict(endless(), "mood")
    assert not taken
    assert next(answers).label in ("good", "bad")
    assert len(taken) == CHUNK_ROWS
    for _ in range(CHUNK_ROWS):
        next(answers)
    assert len(taken) == 2 * CHUNK_ROWS


def test_a_generator_is_refused_before_it_is_read_where_it_cannot_be_answered(multi: MultiTask) -> None:
    with pytest.raises(NoSuchAdapter):
        multi.predict(iter(TEXTS), "none")
    with pytest.raises(RouteError, match="a generator is answered for one task"):
        multi.predict(iter(TEXTS), ["mood"] * len(TEXTS))


def test_a_missing_text_of_a_frame_is_refused_or_has_an_empty_answer(multi: MultiTask) -> None:
    frame = pd.DataFrame({"review": ["good film", None]})
    with pytest.raises(DataError, match="text 2 of 2 is empty"):
        multi.predict(frame, "mood")
    good, missing = multi.predict(frame, "mood", on_error="null")
    assert (good.error, missing.error) == (None, "the text is empty")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("good film", r"one text is given, not a list of texts\. Put it in brackets"),
        (7, "a int does not hold texts"),
        (
            pd.DataFrame({"a": TEXTS, "b": TEXTS}),
            r"<DataFrame>: it is not clear which of the columns 'a', 'b' holds the texts\. Give the column",
        ),
    ],
    ids=["one text", "a number", "two columns"],
)
def test_what_holds_no_texts_is_refused(multi: MultiTask, data: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        multi.predict(data, "mood")
