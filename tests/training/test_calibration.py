"""Training calibrates: the probabilities, the file, the card, exports and every way to ask."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from polytask.adapters.adapter import Adapter
from polytask.adapters.store import Store
from polytask.backbones.backbone import Backbone
from polytask.cli.card import facts, markdown
from polytask.data.task import Kind, Rows, Task
from polytask.evaluation.calibration_fit import FittedCalibration
from polytask.evaluation.thresholds import Goal
from polytask.inference.predict import MultiTask
from polytask.methods import Houlsby
from polytask.training.loop import train
from polytask.training.recipe import Recipe
from polytask.training.result import Result
from tests.conftest import BAD, GOOD

TEXTS = [*GOOD, *BAD]
RECIPE = Recipe(Houlsby(4), lr=1e-2, epochs=2, batch_size=16)


def task_of(kind: Kind, rows: int = 72, *, with_test: bool = True) -> Task:
    """Every ninth row has another label than its text says."""
    texts = [TEXTS[row % len(TEXTS)] for row in range(rows)]
    truth = [int((texts[row] in GOOD) != (row % 9 == 0)) for row in range(rows)]
    targets = {
        "classification": truth,
        "multilabel": [(0,) if of else (0, 1) if row % 3 else () for row, of in enumerate(truth)],
        "regression": [of + row % 5 / 10 for row, of in enumerate(truth)],
    }[kind]
    own = Rows(texts, targets=targets)
    labels = () if kind == "regression" else ("bad", "good")
    metric = {"classification": "accuracy", "multilabel": "micro_f1", "regression": "pearson"}[kind]
    return Task("mood", kind, labels, metric, own, own, own if with_test else None)


@pytest.mark.parametrize(("kind", "named"), [("classification", "temperature"), ("multilabel", "platt")])
def test_probabilities_are_calibrated_unless_asked_otherwise_and_labels_stay(
    tiny_backbone: Backbone, tmp_path: Path, kind: Kind, named: str
) -> None:
    adapter, result = train(tiny_backbone, task_of(kind), RECIPE)
    header = adapter.header
    assert header.calibration is not None
    assert header.calibration["kind"] == named
    assert header.calibration["rows"] == 72
    assert header.to_object()["format"] == 2
    assert Adapter.from_bytes(adapter.to_bytes()).header == header
    store = Store(tmp_path)
    store.put(adapter)
    together = MultiTask(tiny_backbone, store)
    calibrated, plain = (together.predict(TEXTS, "mood", calibrated=asked) for asked in (True, False))
    assert [p.label or p.labels for p in calibrated] == [p.label or p.labels for p in plain]
    assert [p.probs for p in calibrated] != [p.probs for p in plain]
    said = result.calibration or {}
    assert (said["on"], said["rows"]) == ("test", 72)
    assert said["after"]["brier"][0] <= said["before"]["brier"][0] + 1e-3
    assert Result.from_json(result.to_json()) == result


def test_a_head_with_its_calibration_folded_in_answers_alike(tiny_backbone: Backbone, tmp_path: Path) -> None:
    for kind in ("classification", "multilabel", "regression"):
        adapter, _ = train(tiny_backbone, replace(task_of(kind), name=kind), RECIPE)  # type: ignore[arg-type]
        folded = adapter.folded()
        assert folded.header.calibration is None
        store = Store(tmp_path / kind)
        store.put(adapter)
        store.put(folded)
        together = MultiTask(tiny_backbone, store)
        for one, other in zip(*(together.predict(TEXTS, f"{kind}@{version}") for version in (1, 2)), strict=True):
            assert list((one.probs or {}).values()) == pytest.approx(list((other.probs or {}).values()), abs=1e-5)
            assert one.score == (None if other.score is None else pytest.approx(other.score))
            assert one.label == other.label


def test_a_regression_answers_with_an_interval(tiny_backbone: Backbone, tmp_path: Path) -> None:
    adapter, result = train(tiny_backbone, task_of("regression"), RECIPE)
    store = Store(tmp_path)
    store.put(adapter)
    (answer,) = MultiTask(tiny_backbone, store).predict(["good film"], "mood")
    low, high = answer.interval or (0.0, 0.0)
    assert low < (answer.score or 0.0) < high
    assert answer.to_json()["interval"] == (low, high)
    assert (result.calibration or {})["coverage"][0] >= 0.9
    (plain,) = MultiTask(tiny_backbone, store).predict(["good film"], "mood", calibrated=False)
    assert plain.interval is None


def test_without_test_rows_the_errors_are_those_of_rows_that_were_not_fitted(tiny_backbone: Backbone) -> None:
    _, result = train(tiny_backbone, task_of("classification", with_test=False), RECIPE)
    assert (result.calibration or {})["on"] == "validation"


def test_too_few_validation_rows_are_said_and_the_file_is_as_before(tiny_backbone: Backbone, tiny_task: Task) -> None:
    adapter, result = train(tiny_backbone, tiny_task, RECIPE)
    assert adapter.header.calibration is None
    assert "calibration" not in adapter.header.to_object()
    assert result.calibration == {
        "notes": ["not calibrated: 12 validation rows are too few for reliable probabilities; 50 are needed"]
    }


def test_tensors_are_those_of_training_without_calibration(
    tiny_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    calibrated, _ = train(tiny_backbone, task_of("classification"), RECIPE)
    monkeypatch.setattr("polytask.training.finish.fit_on_validation", lambda *_: FittedCalibration(None))
    plain, _ = train(tiny_backbone, task_of("classification"), RECIPE)
    assert (calibrated.header.calibration is None, plain.header.calibration is None) == (False, True)
    assert calibrated.tensor_digest == plain.tensor_digest


def test_the_card_shows_both_errors_and_the_diagram(tiny_backbone: Backbone, tmp_path: Path) -> None:
    store = Store(tmp_path)
    entry = store.put(train(tiny_backbone, task_of("classification"), RECIPE)[0])
    names = dict(facts(entry))
    assert names["calibration"].startswith("temperature ")
    assert "before calibration" in names["expected calibration error"]
    assert "on 72 test rows" in names["Brier score"]
    card = markdown(entry)
    assert "## Reliability" in card
    assert "After calibration:" in card


def test_a_card_of_a_strangers_result_leaves_out_what_it_does_not_know(tiny_backbone: Backbone, tmp_path: Path) -> None:
    adapter, _ = train(tiny_backbone, task_of("classification"), RECIPE)
    for odd in (5, {"before": {"ece": "x"}, "after": {"bins": [[1], "y"]}, "notes": 3}, {"coverage": [1, 2]}):
        given = {**adapter.header.to_object(), "result": {"calibration": odd}}
        entry = Store(tmp_path).put(Adapter.with_digest(given, adapter.tensors))
        assert "expected calibration error" not in dict(facts(entry))
        assert "Reliability" not in markdown(entry)


def test_an_adapter_with_thresholds_abstains_everywhere_and_can_be_overruled(
    tiny_backbone: Backbone, tmp_path: Path
) -> None:
    adapter, result = train(tiny_backbone, task_of("classification"), RECIPE, goal=Goal("coverage", 0.5))
    header = adapter.header
    assert header.thresholds is not None
    assert (header.thresholds["goal"], header.thresholds["rows"]) == ("coverage", 72)
    assert Adapter.from_bytes(adapter.to_bytes()).header == header
    assert (result.thresholds or {})["test"]["coverage"][0] >= 0.5
    store = Store(tmp_path)
    entry = store.put(adapter)
    assert dict(facts(entry))["thresholds"].startswith("on 72 test rows coverage ")
    together = MultiTask(tiny_backbone, store)
    own, sure = together.predict(TEXTS, "mood"), together.predict(TEXTS, "mood", threshold=1.0)
    everything = together.predict(TEXTS, "mood", abstain=False)
    cut = header.thresholds["values"][0]
    for answer, whole, none in zip(own, everything, sure, strict=True):
        likeliest = max((whole.probs or {}).values())
        assert whole.label is not None
        assert answer.abstained == (likeliest < cut)
        assert answer.label == (None if answer.abstained else whole.label)
        why = {"abstained": True, "reason": "below the threshold"}
        assert none.to_json() == {"task": "mood", "label": None, **why, "probs": whole.probs}
