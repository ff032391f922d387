"""Thresholds, abstaining and calibration over HTTP equal those of the library."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from polytask.adapters.store import Store
from polytask.backbones.backbone import Backbone
from polytask.inference.predict import MultiTask
from polytask.serving.client import AsyncClient, Client, ServerError
from tests.cli.test_cli import refused, succeeded
from tests.serving.servers import Served, serving
from tests.serving.stores import TEXTS, random_adapter

LABELS = ("bad", "good")
TEMPERATURE = {"kind": "temperature", "temperature": 2.0, "rows": 60}
PLATT = {"kind": "platt", "slopes": [0.5, 1.0, 2.0], "offsets": [0.3, 0.0, -0.3], "rows": 60}
CONFORMAL = {"kind": "conformal", "radius": 0.75, "level": 0.9, "rows": 60}
DECISIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "mood": ("classification", {"calibration": TEMPERATURE}),
    "sure": ("classification", {"calibration": TEMPERATURE}),
    "several": ("multilabel", {"calibration": PLATT}),
    "stars": ("regression", {"calibration": CONFORMAL}),
}
OPTIONS: list[dict[str, Any]] = [
    {},
    {"calibrated": False},
    {"threshold": 0.0},
    {"threshold": 0.55},
    {"threshold": 0.55, "calibrated": False},
    {"threshold": 1.0},
]


@pytest.fixture(scope="module")
def decided(backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of calibrated adapters; ``sure`` abstains from about half of the texts."""
    folder = tmp_path_factory.mktemp("decided") / "adapters"
    store = Store(folder)
    for name, (kind, decides) in DECISIONS.items():
        store.put(random_adapter(backbone, name, kind, decides=decides))
    answers = MultiTask(backbone, store).predict(TEXTS, "sure")
    middle = sorted(max((answer.probs or {}).values()) for answer in answers)[len(answers) // 2]
    thresholds = {"goal": "precision", "target": 0.9, "values": [middle, middle], "rows": 60}
    store.remove("sure")
    store.put(random_adapter(backbone, "sure", decides={"calibration": TEMPERATURE, "thresholds": thresholds}))
    return folder


@pytest.fixture(scope="module")
def deciding(backbone: Backbone, decided: Path) -> Iterator[Served]:
    with serving(backbone, decided) as served:
        yield served


@pytest.fixture(scope="module")
def library(backbone: Backbone, decided: Path) -> MultiTask:
    return MultiTask(backbone, Store(decided))


def near(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal, numbers up to 1e-5."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(near(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(near, one, other))
    return one == pytest.approx(other, abs=1e-5) if isinstance(one, float) else one == other


CASES = [(task, options) for task in DECISIONS for options in OPTIONS if task != "stars" or "threshold" not in options]


@pytest.mark.parametrize(("task", "options"), CASES, ids=str)
def test_answers_over_http_equal_the_library_with_the_same_options(
    deciding: Served, library: MultiTask, task: str, options: dict[str, Any]
) -> None:
    expected = library.predict(TEXTS, task, **options)
    items = deciding.classify(model=task, input=list(TEXTS), **options).raise_for_status().json()["data"]
    for item, prediction in zip(items, expected, strict=True):
        given = {name: value for name, value in item.items() if name not in ("index", "num_classes")}
        assert near(given, json.loads(json.dumps(prediction.to_json())))
    with Client(deciding.url) as client:
        for given, prediction in zip(client.predict(TEXTS, task, **options), expected, strict=True):
            assert near(given.to_json(), prediction.to_json())


def test_an_adapter_with_thresholds_abstains_with_the_label_null(deciding: Served, library: MultiTask) -> None:
    items = deciding.classify(model="sure", input=list(TEXTS)).raise_for_status().json()["data"]
    abstained = [item for item in items if item.get("abstained")]
    assert 0 < len(abstained) < len(items)
    assert all(item["label"] is None and item["probs"].keys() == set(LABELS) for item in abstained)
    of_library = [answer.abstained for answer in library.predict(TEXTS, "sure")]
    assert [item.get("abstained", False) for item in items] == of_library


def test_none_of_these_is_told_in_all_dialects(backbone: Backbone, tmp_path: Path) -> None:
    store = Store(tmp_path / "adapters")
    none = {"score": "probability", "threshold": 1.0, "false_alarm": 0.05, "rows": 60}
    store.put(random_adapter(backbone, "odd", decides={"none": none}))
    with serving(backbone, tmp_path / "adapters") as served:
        (item,) = served.classify(model="odd", input="a film").raise_for_status().json()["data"]
        assert (item["label"], item["abstained"], item["none"], item["reason"]) == (None, True, True, "none of these")
        (vllm,) = served.post("/classify", {"model": "odd", "input": "a film"}).json()["data"]
        assert (vllm["label"], vllm["abstained"], vllm["none"]) == (None, True, True)
        ranked = served.post("/adapters/odd/predict", {"inputs": "a film"}).json()
        assert {one["label"] for one in ranked} == set(LABELS)
        inputs = [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a film"]}]
        outputs = served.post("/v2/models/odd/infer", {"inputs": inputs}).json()["outputs"]
        assert {"label": [""], "abstained": [True]}.items() <= {own["name"]: own["data"] for own in outputs}.items()
        with Client(served.url) as client:
            (answer,) = client.predict(["a film"], "odd")
            assert (answer.label, answer.abstained, answer.none) == (None, True, True)
            assert client.predict(["a film"], "odd", threshold=0.0)[0].label in LABELS
        ours = succeeded("predict", "--url", served.url, "--task", "odd", "a film")
        assert "(none of these)" in ours


def test_thresholds_of_another_precision_are_logged_and_listed(
    backbone: Backbone, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    thresholds = {"goal": "precision", "target": 0.9, "values": [0.6, 0.6], "rows": 60}
    decides = {"thresholds": thresholds}
    store = Store(tmp_path / "adapters")
    store.put(random_adapter(backbone, "moved", decides=decides, trained_dtype="bfloat16"))
    store.put(random_adapter(backbone, "same", decides=decides, trained_dtype="float32"))
    store.put(random_adapter(backbone, "plain", trained_dtype="bfloat16"))
    with (
        caplog.at_level(logging.WARNING, logger="polytask.serving"),
        serving(backbone, tmp_path / "adapters") as served,
    ):
        listed = {model["task"]: model["warning"] for model in served.get("/v1/models").json()["data"]}
    warning = "its thresholds were fitted in bfloat16, and it answers in float32. Serve it in bfloat16 (--dtype)"
    assert listed == {"moved": warning, "same": None, "plain": None}
    logged = [vars(record) for record in caplog.records if record.getMessage() == "adapter fitted in another precision"]
    assert [(record["adapter"], record["warning"]) for record in logged] == [("moved@1", warning)]


def test_a_regression_has_an_interval_unless_it_is_uncalibrated(deciding: Served) -> None:
    (item,) = deciding.classify(model="stars", input="a film").json()["data"]
    assert item["interval"] == pytest.approx([item["score"] - 0.75, item["score"] + 0.75])
    (raw,) = deciding.classify(model="stars", input="a film", calibrated=False).json()["data"]
    assert "interval" not in raw
    assert raw["score"] == pytest.approx(item["score"], abs=1e-5)


def test_requests_with_different_options_share_a_batch(backbone: Backbone, decided: Path, library: MultiTask) -> None:
    async def ask(url: str) -> list[list[Any]]:
        async with AsyncClient(url) as client:
            predict = (client.predict(TEXTS[:4], "mood", **options) for options in OPTIONS)
            return await asyncio.gather(*predict)

    with serving(backbone, decided, max_wait_s=0.2) as served:
        for options, given in zip(OPTIONS, asyncio.run(ask(served.url)), strict=True):
            expected = library.predict(TEXTS[:4], "mood", **options)
            assert all(near(a.to_json(), b.to_json()) for a, b in zip(given, expected, strict=True))


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({"model": "stars", "threshold": 0.5}, "threshold", "stars has no labels"),
        ({"models": ["mood", "stars"], "threshold": 0.5}, "threshold", "stars has no labels"),
        ({"model": "mood", "threshold": 1.5}, "threshold", "less than or equal to 1"),
        ({"model": "mood", "threshold": -0.1}, "threshold", "greater than or equal to 0"),
        ({"model": "mood", "threshold": "high"}, "threshold", "valid number"),
        ({"model": "mood", "threshold": True}, "threshold", "valid number"),
        ({"model": "mood", "calibrated": "perhaps"}, "calibrated", "valid boolean"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    deciding: Served, body: dict[str, Any], param: str, message: str
) -> None:
    response = deciding.classify(input="a film", **body)
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (422, "malformed", param)
    assert message in error["message"]
    nan = deciding.http.post("/v1/classify", content='{"model": "mood", "input": "a", "threshold": NaN}')
    assert nan.status_code == 422


def test_both_clients_run_all_tasks_with_options(deciding: Served, library: MultiTask) -> None:
    async def ask() -> dict[str, Any]:
        async with AsyncClient(deciding.url) as client:
            return await client.predict_all("a film", ["mood", "several"], threshold=0.9)

    with Client(deciding.url) as client:
        given = client.predict_all("a film", ["mood", "several"], threshold=0.9)
        assert given == asyncio.run(ask())
        for task, answer in given.items():
            assert near(answer.to_json(), library.predict(["a film"], task, threshold=0.9)[0].to_json())
        with pytest.raises(ServerError, match="stars has no labels"):
            client.predict(["a film"], "stars", threshold=0.5)


def test_the_other_dialects_take_the_options_that_they_have_room_for(deciding: Served, library: MultiTask) -> None:
    (expected,) = library.predict(["a film"], "mood", threshold=1.0)
    (vllm,) = deciding.post("/classify", {"model": "mood", "input": "a film", "threshold": 1.0}).json()["data"]
    assert (vllm["label"], vllm["abstained"]) == (None, True)
    assert vllm["probs"] == pytest.approx(list((expected.probs or {}).values()), abs=1e-5)
    (stars,) = deciding.post("/classify", {"model": "stars", "input": "a film"}).json()["data"]
    assert stars["interval"] == pytest.approx([stars["probs"][0] - 0.75, stars["probs"][0] + 0.75])

    (raw,) = library.predict(["a film"], "mood", calibrated=False)
    ranked = deciding.post("/adapters/mood/predict", {"inputs": "a film", "calibrated": False}).json()
    assert {one["label"]: one["score"] for one in ranked} == pytest.approx(dict(raw.probs or {}), abs=1e-5)

    inputs = [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a film"]}]
    body = {"inputs": inputs, "parameters": {"threshold": 1.0, "other": "ignored"}}
    outputs = {t["name"]: t for t in deciding.post("/v2/models/mood/infer", body).json()["outputs"]}
    assert (outputs["label"]["data"], outputs["abstained"]["data"]) == ([""], [True])
    metadata = deciding.get("/v2/models/stars").json()["outputs"]
    assert {tensor["name"]: tensor["shape"] for tensor in metadata} == {"score": [-1], "interval": [-1, 2]}
    of_stars = deciding.post("/v2/models/stars/infer", {"inputs": inputs}).json()["outputs"]
    assert [(tensor["name"], tensor["shape"]) for tensor in of_stars] == [("score", [1]), ("interval", [1, 2])]


def test_models_tell_their_calibration_and_thresholds(deciding: Served) -> None:
    of = {model["task"]: model for model in deciding.get("/v1/models").json()["data"]}
    assert of["mood"]["calibration"] == TEMPERATURE
    assert of["mood"]["thresholds"] is None
    assert of["sure"]["thresholds"]["goal"] == "precision"


@pytest.mark.parametrize("flags", [(), ("--threshold", "0.55"), ("--uncalibrated",), ("--threshold", "1")], ids=str)
def test_predict_by_url_answers_as_by_the_store(deciding: Served, decided: Path, flags: tuple[str, ...]) -> None:
    asked = ("--task", "mood", "--task", "sure", *TEXTS[:6], *flags, "--json")
    ours = succeeded("predict", "--store", decided, "--dtype", "float32", *asked).splitlines()
    theirs = succeeded("predict", "--url", deciding.url, *asked).splitlines()
    for one, other in zip(ours, theirs, strict=True):
        assert near(json.loads(one), json.loads(other))


def test_predict_by_url_refuses_a_threshold_for_a_regression(deciding: Served) -> None:
    assert "stars has no labels" in refused(
        "predict", "--url", deciding.url, "--task", "stars", "a film", "--threshold", "0.5"
    )
