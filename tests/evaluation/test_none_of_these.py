"""Detectors are their formulas; the threshold keeps its false alarms; a header's field is read strictly."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from polytask.data.task import Rows, Task
from polytask.errors import AdapterError, DataError, RecipeError
from polytask.evaluation.decision import Decision
from polytask.evaluation.detectors import DETECTORS, Mahalanobis
from polytask.evaluation.none_of_these import (
    DetectNone,
    NoneOfThese,
    auroc,
    false_positives,
    none_from_json,
    threshold_of,
)

FIELD: dict[str, Any] = {"score": "mahalanobis", "threshold": -3.5, "false_alarm": 0.05, "rows": 100}


def classes(rows: int = 300, width: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(rows) % 3
    means = 6 * torch.randn(3, width, generator=generator, dtype=torch.float64)
    mix = torch.randn(width, width, generator=generator, dtype=torch.float64)
    return means[targets] + torch.randn(rows, width, generator=generator, dtype=torch.float64) @ mix, targets


def test_the_mahalanobis_distance_is_that_of_the_shared_covariance() -> None:
    from sklearn.covariance import LedoitWolf

    x, targets = classes()
    means = torch.stack([x[targets == label].mean(dim=0) for label in range(3)])
    spread = LedoitWolf(assume_centered=True).fit((x - means[targets]).numpy())
    apart = x[:, None] - means
    distances = torch.einsum("nkd,de,nke->nk", apart, torch.from_numpy(spread.precision_), apart)
    found = Mahalanobis.familiarity(x, torch.zeros(len(x), 3), Mahalanobis.fit(x, targets, 3, None))
    torch.testing.assert_close(found, -distances.amin(dim=1), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", DETECTORS)
def test_every_detector_has_the_tensors_it_names_and_finds_what_is_far_away(name: str) -> None:
    x, targets = classes()
    detector = DETECTORS[name]
    noise = torch.randn(60, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    unlike = x.mean(dim=0) + noise + (20 if name == "linear" else 0)
    tensors = {key: own.float() for key, own in detector.fit(x, targets, 3, unlike).items()}
    assert {key: tuple(own.shape) for key, own in tensors.items()} == detector.shapes(3, 6)
    means = torch.stack([x[targets == label].mean(dim=0) for label in range(3)])
    familiar, far = (
        detector.familiarity(own.float(), -torch.cdist(own, means).float(), tensors).tolist() for own in (x, unlike)
    )
    assert len(familiar) == 300
    assert auroc(familiar, far) > 0.75


@pytest.mark.parametrize(("rows", "rate"), [(19, 0.05), (99, 0.1), (400, 0.05)])
def test_the_threshold_keeps_its_share_of_false_alarms_on_average(rows: int, rate: float) -> None:
    generator = torch.Generator().manual_seed(1)
    shares = []
    for _ in range(300):
        cut = threshold_of(torch.randn(rows, generator=generator).tolist(), rate)
        assert cut is not None
        shares.append(float((torch.randn(500, generator=generator) < cut).float().mean()))
    assert sum(shares) / len(shares) == pytest.approx(rate, abs=0.015)
    assert threshold_of([0.0] * 18, 0.05) is None


def test_measures_are_those_of_their_definitions() -> None:
    assert auroc([1.0, 2.0], [0.0, 1.0]) == 0.875
    assert false_positives([float(n) for n in range(100)], [4.0, 5.0, 6.0, 1.0]) == 0.5


def test_an_unfamiliar_text_has_no_label_unless_that_is_overruled() -> None:
    decision = Decision("classification", ("a", "b"), none=NoneOfThese("energy", 1.5, 0.05, 100))
    answers = [decision.of([0.9, 0.1, familiarity]) for familiarity in (1.5, 1.4)]
    assert [(own.label, own.abstained, own.none) for own in answers] == [(0, False, False), (None, True, True)]
    assert answers[1].probs == [0.9, 0.1]
    assert decision.asked(abstain=False).of([0.9, 0.1, 0.0]).label == 0
    assert decision.asked(threshold=0.0).of([0.9, 0.1, 0.0]).label == 0


@pytest.mark.parametrize(
    "change",
    [
        {"score": "guess"},
        {"false_alarm": 1.0},
        {"rows": 0},
        {"threshold": float("inf")},
        {"threshold": "low"},
        {"more": 1},
    ],
)
def test_a_field_that_is_not_sound_is_refused(change: dict[str, Any]) -> None:
    assert none_from_json(FIELD, "classification").to_json() == FIELD
    with pytest.raises(AdapterError, match="'none'"):
        none_from_json({**FIELD, **change}, "classification")
    with pytest.raises(AdapterError, match="'none'"):
        none_from_json(FIELD, "multilabel")


def test_rows_of_the_label_are_taken_out_of_every_split() -> None:
    rows = Rows(["a1", "o1", "b1", "o2", "a2"], targets=[0, 1, 2, 1, 0])
    task = Task("t", "classification", ("a", "oos", "b"), "accuracy", rows, rows, None)
    rest, none = DetectNone(label="oos").taken_out_of(task)
    assert rest.labels == ("a", "b")
    assert (list(rest.train.texts), list(rest.train.targets or ())) == (["a1", "b1", "a2"], [0, 1, 0])
    assert {name: list(own.texts) for name, own in none.examples.items()} == {
        "train": ["o1", "o2"],
        "validation": ["o1", "o2"],
    }
    assert none.taken_out_of(rest) == (rest, none)
    with pytest.raises(DataError, match="no row has the label 'oss'"):
        DetectNone(label="oss").taken_out_of(task)


def test_what_cannot_be_asked_is_refused() -> None:
    with pytest.raises(RecipeError, match="false_alarm=0"):
        DetectNone(0)
    with pytest.raises(RecipeError, match="this task is regression"):
        DetectNone().check("regression")
