"""Estimators of scikit-learn on adapters: its own checks where they make sense for texts, and its tools around them.

``check_estimator`` gives tables of numbers to whatever it checks, so scikit-learn itself leaves out those of its checks
that need data where an estimator's tags say that it takes strings. Of the checks that need no data all run here; the
others have their counterparts on texts below, or are listed in ``LEFT_OUT`` with the reason.
"""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import NotFittedError
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import check_estimator

import polytask as pt
from polytask.errors import PolytaskError
from polytask.methods import IA3, Houlsby, LoRA
from polytask.sklearn import AdapterClassifier, AdapterGridSearchCV, AdapterRegressor, estimators
from tests.conftest import BAD, GOOD

TEXTS = [*GOOD, *BAD] * 3
LABELS = (["good"] * len(GOOD) + ["bad"] * len(BAD)) * 3
SCORES = [1.5 if label == "good" else -0.5 for label in LABELS]
WITHOUT_DATA = (
    *("check_estimator_cloneable", "check_estimator_tags_renamed", "check_valid_tag_types", "check_estimator_repr"),
    *("check_no_attributes_set_in_init", "check_parameters_default_constructible", "check_get_params_invariance"),
    *("check_set_params", "check_mixin_order"),
)
LEFT_OUT = {
    "check_n_features_in": "a text is no row of features: n_features_in_ is not there",
    "check_estimators_nan_inf, check_estimator_sparse_array, check_dtype_object": "the input is a table of numbers",
    "check_sample_weights_*": "weights of rows are not supported; class_weights is",
}


@pytest.fixture(scope="module")
def averaging(tiny_bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT that pools by the mean."""
    folder = Path(shutil.copytree(tiny_bert_folder, tmp_path_factory.mktemp("sklearn") / "averaging"))
    modules = [{"path": "pooling", "type": "sentence_transformers.models.Pooling"}]
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    (folder / "pooling").mkdir()
    (folder / "pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}), encoding="utf-8")
    return folder


def classifier(averaging: Path, **given: Any) -> AdapterClassifier:
    own = {"method": Houlsby(4), "lr": 1e-2, "epochs": 12, "batch_size": 8, "max_length": 16, "validation_share": 0.3}
    return AdapterClassifier(str(averaging), device="cpu", dtype="float32", **{**own, **given})


@pytest.fixture(scope="module")
def fitted(averaging: Path) -> AdapterClassifier:
    return classifier(averaging).fit(TEXTS, LABELS)


@pytest.mark.parametrize("check", WITHOUT_DATA)
@pytest.mark.parametrize("estimator", [AdapterClassifier, AdapterRegressor])
def test_checks_of_scikit_learn_that_need_no_data_pass(check: str, estimator: type) -> None:
    getattr(estimator_checks, check)(estimator.__name__, estimator())


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_scikit_learn_s_own_suite_accepts_the_estimators_and_knows_that_they_take_strings() -> None:
    for estimator in (AdapterClassifier(), AdapterRegressor()):
        results = check_estimator(estimator) or []
        assert {result["status"] for result in results} <= {"passed", "skipped"}


def test_a_classifier_learns_and_stores_its_classes(fitted: AdapterClassifier) -> None:
    assert list(fitted.classes_) == ["bad", "good"]
    assert fitted.score(TEXTS, LABELS) >= 0.75
    probs = fitted.predict_proba(np.array(TEXTS))
    assert probs.shape == (len(TEXTS), 2)
    np.testing.assert_allclose(probs.sum(axis=1), 1)
    assert list(fitted.classes_[probs.argmax(axis=1)]) == list(fitted.predict(TEXTS))
    assert fitted.predict([]).shape == (0,)


def test_answers_are_those_of_the_adapter_in_a_store(fitted: AdapterClassifier, tmp_path: Path) -> None:
    store = pt.Store(tmp_path)
    store.put(fitted.adapter_.renamed("mood"))
    predictions = pt.MultiTask(fitted.backbone_, store).predict(TEXTS[:5], "mood")
    own = fitted.predict_proba(TEXTS[:5])
    np.testing.assert_allclose([list((p.probs or {}).values()) for p in predictions], own, atol=1e-6)


def test_fitting_twice_gives_the_same_and_changes_no_parameter(averaging: Path, fitted: AdapterClassifier) -> None:
    before = {name: repr(value) for name, value in fitted.get_params().items()}
    again = clone(fitted)
    assert again.fit(TEXTS, LABELS) is again
    assert again.adapter_.tensor_digest == fitted.adapter_.tensor_digest
    first = dict(vars(again))
    again.predict(TEXTS)
    assert dict(vars(again)) == first
    assert {name: repr(value) for name, value in again.get_params().items()} == before


def test_an_answer_depends_on_its_text_alone(fitted: AdapterClassifier) -> None:
    whole = fitted.predict_proba(TEXTS[:12])
    np.testing.assert_allclose(fitted.predict_proba(TEXTS[:12][::-1])[::-1], whole, atol=1e-6)
    np.testing.assert_allclose(np.concatenate([fitted.predict_proba([text]) for text in TEXTS[:12]]), whole, atol=1e-6)


def test_classes_keep_their_type(averaging: Path) -> None:
    numbers = [1 if label == "good" else 0 for label in LABELS]
    own = classifier(averaging, epochs=1).fit(TEXTS, numbers)
    assert own.classes_.dtype.kind == "i"
    assert set(own.predict(TEXTS)) <= {0, 1}


def test_a_fitted_estimator_is_pickled_with_its_adapter_and_without_its_backbone(
    fitted: AdapterClassifier, tmp_path: Path
) -> None:
    content = pickle.dumps(fitted)
    assert len(content) < 2 * fitted.adapter_.num_bytes + 20_000
    joblib.dump(fitted, tmp_path / "fitted.joblib")
    for again in (pickle.loads(content), joblib.load(tmp_path / "fitted.joblib")):
        np.testing.assert_array_equal(again.predict_proba(TEXTS), fitted.predict_proba(TEXTS))


def test_unusable_input_is_refused_with_the_reason(averaging: Path, fitted: AdapterClassifier) -> None:
    with pytest.raises(NotFittedError):
        classifier(averaging).predict(TEXTS)
    for X, y, said in (
        ("one text", ["a"], "X is one text"),
        (TEXTS[:3], None, "requires y to be passed"),
        (TEXTS[:3], ["a", "a", "a"], "y has 1 class"),
        (TEXTS[:3], ["a", "b"], "3 texts and 2 targets"),
        ([1, 2], ["a", "b"], "not a string"),
        (["a", ""], ["a", "b"], "is empty"),
        (["a", ("b", "c")], ["a", "b"], "single texts and pairs"),
    ):
        with pytest.raises(PolytaskError, match=said):
            classifier(averaging).fit(X, y)
    with pytest.raises(PolytaskError, match="no method called 'hulsby'"):
        classifier(averaging, method="hulsby").fit(TEXTS, LABELS)


def test_pairs_and_numbers(averaging: Path) -> None:
    pairs = [(text, "the film") for text in TEXTS]
    assert classifier(averaging, epochs=1).fit(pairs, LABELS).predict(pairs[:3]).shape == (3,)
    own = {"method": Houlsby(4), "lr": 1e-2, "epochs": 30, "batch_size": 8, "max_length": 16, "validation_share": 0.4}
    regressor = AdapterRegressor(str(averaging), device="cpu", dtype="float32", **own).fit(TEXTS, SCORES)
    assert regressor.score(TEXTS, SCORES) > 0.1
    with pytest.raises(PolytaskError, match="not a number"):
        regressor.fit(TEXTS, LABELS)


def test_in_a_pipeline_within_a_grid_search(averaging: Path) -> None:
    lower = FunctionTransformer(lambda texts: [text.lower() for text in texts])
    steps = Pipeline([("lower", lower), ("adapter", classifier(averaging))])
    search = GridSearchCV(steps, {"adapter__lr": [1e-2, 1e-6]}, cv=2).fit([t.upper() for t in TEXTS], LABELS)
    assert search.best_params_ == {"adapter__lr": 1e-2}
    assert list(search.classes_) == ["bad", "good"]
    assert search.score(TEXTS, LABELS) >= 0.75


def test_cross_validation_and_calibration(averaging: Path) -> None:
    own = classifier(averaging)
    assert cross_val_score(own, TEXTS, LABELS, cv=StratifiedKFold(2)).shape == (2,)
    calibrated = CalibratedClassifierCV(own, cv=2, method="sigmoid").fit(TEXTS, LABELS)
    probs = calibrated.predict_proba(TEXTS)
    np.testing.assert_allclose(probs.sum(axis=1), 1)
    assert calibrated.score(TEXTS, LABELS) >= 0.7


def test_a_fused_grid_search_gives_what_a_plain_one_gives(averaging: Path) -> None:
    grid = {"lr": [1e-2, 1e-3], "method": [Houlsby(4), LoRA(2), IA3()]}
    cv = KFold(2, shuffle=True, random_state=0)
    own = classifier(averaging, epochs=2)
    fused = AdapterGridSearchCV(own, grid, cv=cv).fit(TEXTS, LABELS)
    plain = GridSearchCV(own, grid, cv=cv).fit(TEXTS, LABELS)
    np.testing.assert_allclose(fused.cv_results_["mean_test_score"], plain.cv_results_["mean_test_score"])
    assert fused.best_params_ == plain.best_params_
    assert fused.best_estimator_.adapter_.tensor_digest == plain.best_estimator_.adapter_.tensor_digest
    with pytest.raises(PolytaskError, match="Use GridSearchCV for pipelines"):
        AdapterGridSearchCV(Pipeline([("adapter", own)]), grid).fit(TEXTS, LABELS)


def test_a_fused_grid_search_trains_nothing_twice(averaging: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone: list[object] = []
    train = estimators.train
    monkeypatch.setattr("polytask.sklearn.estimators.train", lambda *given: (alone.append(given), train(*given))[1])
    AdapterGridSearchCV(classifier(averaging, epochs=1), {"lr": [1e-2, 1e-3]}, cv=2).fit(TEXTS, LABELS)
    assert len(alone) == 1  # the best one, on all rows


def test_texts_come_in_any_table_or_column(averaging: Path, fitted: AdapterClassifier) -> None:
    frame = pd.DataFrame({"sentence": TEXTS, "label": LABELS})
    own = classifier(averaging).fit(frame[["sentence"]], frame["label"])
    assert own.adapter_.tensor_digest == fitted.adapter_.tensor_digest
    expected = fitted.predict_proba(TEXTS)
    for held in (frame, frame[["sentence"]], frame["sentence"], pa.array(TEXTS), pa.table({"text": TEXTS})):
        np.testing.assert_array_equal(fitted.predict_proba(held), expected)


# -- several labels a text --------------------------------------------------------------------------------------------

SETS = ([["good", "short"]] * len(GOOD) + [["bad"]] * (len(BAD) - 1) + [[]]) * 3
MATRIX = np.array([[int(name in own) for name in ("bad", "good", "short")] for own in SETS])


@pytest.fixture(scope="module")
def several(averaging: Path) -> AdapterClassifier:
    return classifier(averaging).fit(TEXTS, MATRIX)


def test_an_indicator_matrix_is_answered_by_one(several: AdapterClassifier) -> None:
    answers, probs = several.predict(TEXTS), several.predict_proba(TEXTS)
    assert several.multilabel_
    assert several.classes_.tolist() == [0, 1, 2]
    assert answers.shape == probs.shape == MATRIX.shape
    assert set(np.unique(answers)) <= {0, 1}
    assert ((probs >= 0) & (probs <= 1)).all()
    assert f1_score(MATRIX, answers, average="micro") > 0.7
    assert several.score(TEXTS, MATRIX) == accuracy_score(MATRIX, answers)
    assert several.predict([]).shape == several.predict_proba([]).shape == (0, 3)
    assert several.adapter_.header.head.kind == "multilabel"


def test_lists_of_labels_frames_and_sparse_matrices_are_the_same_task(averaging: Path) -> None:
    frame = pd.DataFrame(MATRIX, columns=["bad", "good", "short"])
    numbers, names = (csr_matrix(MATRIX), MATRIX.tolist(), MATRIX), (SETS, pd.Series(SETS), frame)
    for forms, classes in ((numbers, [0, 1, 2]), (names, list(frame))):
        fits = [classifier(averaging, epochs=1).fit(TEXTS, y) for y in forms]
        assert len({own.adapter_.tensor_digest for own in fits}) == 1
        assert all(own.multilabel_ and own.classes_.tolist() == classes for own in fits)
        assert len({own.score(TEXTS, y) for own, y in zip(fits, forms)}) == 1
    with pytest.raises(PolytaskError, match="y has the label 'long'"):
        fits[0].score(TEXTS[:1], [["long"]])
    assert fits[0].score(TEXTS, frame[["short", "good", "bad"]]) == fits[0].score(TEXTS, frame)


def test_several_labels_clone_pickle_and_search(averaging: Path, several: AdapterClassifier) -> None:
    again = pickle.loads(pickle.dumps(several))
    np.testing.assert_array_equal(again.predict(TEXTS), several.predict(TEXTS))
    assert not hasattr(clone(several), "classes_")
    given = {"lr": [1e-3, 1e-2]}
    plain = GridSearchCV(classifier(averaging, epochs=2), given, cv=KFold(2), scoring="f1_micro").fit(TEXTS, MATRIX)
    fused = AdapterGridSearchCV(classifier(averaging, epochs=2), given, cv=KFold(2), scoring="f1_micro")
    fused.fit(TEXTS, MATRIX)
    np.testing.assert_allclose(plain.cv_results_["mean_test_score"], fused.cv_results_["mean_test_score"], atol=1e-6)
    assert plain.predict(TEXTS).shape == MATRIX.shape
    own = AdapterGridSearchCV(classifier(averaging, epochs=1), given, cv=KFold(2)).fit(TEXTS, SETS)
    assert own.best_estimator_.multilabel_


def test_targets_that_are_neither_classes_nor_labels_are_refused(averaging: Path) -> None:
    for y, message in (
        ([[]] * len(TEXTS), "no row has a label"),
        ([["a"], [1]] * (len(TEXTS) // 2), "labels of several types"),
        (np.full((len(TEXTS), 2), 7), "y has 2 dimensions"),
    ):
        with pytest.raises(PolytaskError, match=message):
            classifier(averaging).fit(TEXTS, y)


def test_input_without_texts_or_classes_is_refused_in_one_sentence(averaging: Path, fitted: AdapterClassifier) -> None:
    numbers = csr_matrix(np.eye(len(TEXTS)))
    for features in (numbers, numbers.toarray()):
        with pytest.raises(PolytaskError, match=r"X holds numbers .*leave out the vectorizer"):
            classifier(averaging).fit(features, LABELS)
    for missing in (None, float("nan"), pd.NA):
        with pytest.raises(PolytaskError, match="target 2 of 36 is missing"):
            classifier(averaging).fit(TEXTS, [LABELS[0], missing, *LABELS[2:]])
        with pytest.raises(PolytaskError, match="text 2 of 36 is empty"):
            classifier(averaging).fit([TEXTS[0], missing, *TEXTS[2:]], LABELS)
    with pytest.raises(PolytaskError, match="Use AdapterRegressor"):
        classifier(averaging).fit(TEXTS, np.linspace(0, 1, len(TEXTS)))
    with pytest.raises(PolytaskError, match=r"y.ravel\(\)"):
        classifier(averaging).fit(TEXTS, np.reshape(LABELS, (-1, 1)))
    with pytest.raises(PolytaskError, match=r"Give its name: AdapterClassifier\('"):
        AdapterClassifier(fitted.backbone_).fit(TEXTS, LABELS)
    column = np.reshape(TEXTS[:2], (-1, 1))
    assert list(fitted.predict(column)) == list(fitted.predict(TEXTS[:2]))
