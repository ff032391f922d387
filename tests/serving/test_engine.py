"""The engine: equal to the library in mixed batches, shared tokenization and layers, rows that are not finite."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from polytask.adapters.store import Store
from polytask.backbones.backbone import Backbone
from polytask.inference.predict import MultiTask
from polytask.inference.prediction import Prediction
from polytask.serving import engine as engine_module
from polytask.serving.engine import DEFAULT_OPTIONS, Engine, Row
from tests.serving.stores import SERVED, TEXTS

SINGLE = [f"{name}@1" for name in SERVED if name != "qa"]
CONTEXT = "the team won the match at five and the actor was great in a good film about a bank"


@pytest.fixture
def engine(backbone: Backbone, filled: Path) -> Engine:
    engine = Engine(backbone, Store(filled), batch_tokens=64)
    for name in [*SINGLE, "qa@1"]:
        engine.load(name)
    return engine


def near(one: Prediction, other: Prediction) -> bool:
    same = (one.task, one.label, one.labels, one.answer) == (other.task, other.label, other.labels, other.answer)
    pairs = [(one.score or 0.0, other.score or 0.0), *zip((one.probs or {}).values(), (other.probs or {}).values())]
    return same and all(a == pytest.approx(b, abs=1e-5) for a, b in pairs)


def tokenized(engine: Engine, text: str, names: list[str]) -> list[Row]:
    """A row of the text for each adapter."""
    (rows,) = engine.tokenize([text], [names], [DEFAULT_OPTIONS])
    return rows


def test_a_mixed_batch_gives_the_answers_of_the_library(engine: Engine, backbone: Backbone, filled: Path) -> None:
    library, draw = MultiTask(backbone, Store(filled)), random.Random(3)
    asked: list[tuple[Any, str]] = [(draw.choice(TEXTS), draw.choice(SINGLE)) for _ in range(60)]
    asked += [((question, CONTEXT), "qa@1") for question in TEXTS[:5]]
    draw.shuffle(asked)
    rows = engine.tokenize([text for text, _ in asked], [[name] for _, name in asked], [DEFAULT_OPTIONS] * len(asked))
    answers = engine.answer([row for (row,) in rows])
    for (text, name), answer in zip(asked, answers, strict=True):
        assert isinstance(answer, Prediction), answer
        assert near(answer, library.predict([text], name)[0])


def test_texts_and_tasks_with_the_same_settings_are_tokenized_in_one_call(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    whole = engine_module.encode

    def counted(*args: Any) -> Any:
        calls.append(args)
        return whole(*args)

    monkeypatch.setattr(engine_module, "encode", counted)
    first, second = engine.tokenize(TEXTS[:2], [SINGLE, SINGLE[:2]], [DEFAULT_OPTIONS] * 2)
    assert len(calls) == 1
    assert [len({id(row.encoded) for row in rows}) for rows in (first, second)] == [1, 1]
    assert first[0].encoded.ids == tokenized(engine, TEXTS[0], SINGLE)[0].encoded.ids != second[0].encoded.ids


def test_layers_below_all_adapters_are_computed_once_per_text(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    entered = []
    below = engine.backbone.encoder.prefix_states

    def counted(ids: Any, *rest: Any, **options: Any) -> Any:
        entered.append(len(ids))
        return below(ids, *rest, **options)

    monkeypatch.setattr(engine.backbone.encoder, "prefix_states", counted)
    rows = tokenized(engine, "a great plot", ["top@1", "topmost@1", "top@1"])
    answers = engine.answer(rows)
    assert entered == [1]
    assert answers[0] == answers[2]


def test_a_row_with_nan_fails_alone(engine: Engine) -> None:
    rows = tokenized(engine, "good film", ["mood@1", "topic@1", "stars@1"])
    with torch.no_grad():
        engine.adapters["topic@1"].head.bias.fill_(float("nan"))
    first, poisoned, last = engine.answer(rows)
    assert isinstance(first, Prediction)
    assert isinstance(last, Prediction)
    assert isinstance(poisoned, RuntimeError)
    engine.unload("topic@1")


def test_the_health_probe_runs_a_forward_pass(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.probe()
    nan = lambda *args: (torch.zeros(1, 1, 32), torch.full((1, 32), float("nan")))  # noqa: E731
    monkeypatch.setattr(engine_module, "encode_batch", nan)
    with pytest.raises(RuntimeError, match="not finite"):
        engine.probe()
