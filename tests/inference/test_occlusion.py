"""The effect of a word is the answer with it minus the answer without it."""

from __future__ import annotations

from pathlib import Path

import pytest

from polytask.adapters.store import Store
from polytask.backbones.backbone import Backbone
from polytask.evaluation.calibration import logit
from polytask.inference.inputs import Text
from polytask.inference.occlusion import MAX_UNITS, word_effects
from polytask.inference.predict import MultiTask
from polytask.inference.prediction import Prediction
from tests.reporting.adapters import random_adapter


@pytest.fixture
def model(tiny_backbone: Backbone, tmp_path: Path) -> MultiTask:
    store = Store(tmp_path)
    store.put(random_adapter(tiny_backbone, "mood"))
    store.put(random_adapter(tiny_backbone, "pairs", inputs="pair"))
    return MultiTask(tiny_backbone, store)


def good(prediction: Prediction) -> float:
    return logit((prediction.probs or {})["good"])


def of(model: MultiTask, text: Text, task: str = "mood") -> float:
    return good(model.predict([text], task)[0])


def test_an_effect_is_the_answer_minus_that_without_the_word(model: MultiTask) -> None:
    text = "a good  film"
    (effects,) = word_effects(model, "mood", [text], [good])
    assert [text[own.start : own.end] for own in effects] == ["a", "good", "film"]
    without = ["good film", "a film", "a good"]
    assert [own.value for own in effects] == pytest.approx(
        [of(model, text) - of(model, own) for own in without], abs=1e-3
    )
    assert any(abs(own.value) > 0.01 for own in effects)


def test_words_of_both_texts_of_a_pair_are_left_out(model: MultiTask) -> None:
    pair = ("good film", "an awful plot")
    (effects,) = word_effects(model, "pairs", [pair], [good])
    assert [pair[own.side][own.start : own.end] for own in effects] == "good film an awful plot".split()
    whole = of(model, pair, "pairs")
    assert effects[3].value == pytest.approx(whole - of(model, ("good film", "an plot"), "pairs"), abs=1e-3)


def test_a_text_of_one_word_has_no_effects(model: MultiTask) -> None:
    assert word_effects(model, "mood", ["good", "good film"], [good, good])[0] == []
    (effects,) = word_effects(model, "pairs", [("good", "bad film")], [good])
    assert {own.side for own in effects} == {1}


def test_words_of_a_long_text_are_left_out_together(model: MultiTask) -> None:
    text = "good film " * 100
    (effects,) = word_effects(model, "mood", [text], [good])
    assert len(effects) <= MAX_UNITS
    assert effects[-1].end == len(text.rstrip())
    (effects,) = word_effects(model, "mood", [text], [good], max_words=10)
    assert effects[-1].end == 49


def test_scripts_without_spaces_are_left_out_by_character(model: MultiTask) -> None:
    (effects,) = word_effects(model, "mood", ["良い映画 film"], [good])
    assert len(effects) == 5
