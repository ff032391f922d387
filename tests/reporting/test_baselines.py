"""The baselines: one answer for every row, and a linear model on the backbone's vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from polytask.backbones.backbone import Backbone
from polytask.data.task import Kind, Rows
from polytask.reporting.answered import Answered
from polytask.reporting.baselines import NO_TRAINING_ROWS, baselines, constant_baseline, fit_predict, pooled_vectors

Answers = Callable[[Kind], Answered]


def test_the_majority_is_counted_in_the_training_rows(answered: Answers) -> None:
    own = answered("classification")
    train = Rows(["a", "b", "c"], targets=[1, 1, 0])
    found = constant_baseline(replace(own, train=train))
    assert set(found.predictions) == {1}
    assert "good for every row" in found.about
    assert "training rows" in found.about


def test_the_mean_is_that_of_the_training_rows(answered: Answers) -> None:
    own = answered("regression")
    assert constant_baseline(own).predictions[0] == pytest.approx(np.mean((own.train or own.rows).targets))
    assert "these rows" in constant_baseline(replace(own, train=None)).about


def test_without_training_rows_the_probe_is_left_out_with_the_reason(answered: Answers) -> None:
    found, why = baselines(replace(answered("classification"), train=None))
    assert [own.name for own in found] == ["majority class"]
    assert why == [NO_TRAINING_ROWS]
    assert [own.name for own in baselines(answered("classification"))[0]] == ["majority class", "linear probe"]
    assert baselines(answered("span")) == ([], [])


def test_vectors_are_those_of_the_frozen_backbone(backbone: Backbone, answered: Answers) -> None:
    own = answered("classification")
    vectors = pooled_vectors(backbone, own.rows, 32)
    ids = torch.tensor([backbone.tokenizer(own.rows.texts[3])["input_ids"]])
    with torch.inference_mode():
        hidden = backbone.model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    np.testing.assert_allclose(vectors[3], hidden.mean(dim=1)[0].numpy(), atol=1e-5)


def test_a_linear_model_learns_what_is_linear() -> None:
    generator = np.random.default_rng(0)
    known, asked = generator.normal(size=(200, 4)), generator.normal(size=(50, 4))
    classes = fit_predict("classification", 2, known, [int(row[0] > 0) for row in known], asked)
    assert np.mean([given == int(row[0] > 0) for given, row in zip(classes, asked)]) > 0.9
    numbers = fit_predict("regression", 0, known, [3 * row[1] + 1 for row in known], asked)
    np.testing.assert_allclose(numbers, 3 * asked[:, 1] + 1, atol=0.1)
    several = fit_predict("multilabel", 2, known, [(0,) if row[2] > 0 else () for row in known], asked)
    assert np.mean([given == ((0,) if row[2] > 0 else ()) for given, row in zip(several, asked)]) > 0.9
