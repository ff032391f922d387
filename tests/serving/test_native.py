"""The native API: answers equal to the library for every method and head, headers, errors, models, metrics."""

from __future__ import annotations

import json
from typing import Any

import pytest

from polytask.inference.predict import MultiTask
from tests.serving.servers import Served
from tests.serving.stores import SERVED, TEXTS

CONTEXT = "the team won the match at five and the actor was great"


def near(one: Any, other: Any) -> bool:
    """Equal, numbers to 1e-5."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(near(one[k], other[k]) for k in one)
    return one == pytest.approx(other, abs=1e-5) if isinstance(one, float) else one == other


def of_item(item: dict[str, Any]) -> dict[str, Any]:
    """The fields of an item that come from the library."""
    return {name: value for name, value in item.items() if name not in ("index", "num_classes")}


@pytest.mark.parametrize("task", SERVED)
def test_items_equal_the_predictions_of_the_library(served: Served, library: MultiTask, task: str) -> None:
    texts: list[Any] = [[text, CONTEXT] for text in TEXTS[:4]] if task == "qa" else list(TEXTS)
    content = served.classify(model=task, input=texts).raise_for_status().json()
    expected = library.predict([tuple(t) if isinstance(t, list) else t for t in texts], task)
    assert [item["index"] for item in content["data"]] == list(range(len(texts)))
    for item, prediction in zip(content["data"], expected, strict=True):
        assert near(of_item(item), json.loads(json.dumps(prediction.to_json())))
        assert item["num_classes"] == len(library.store.entry(task).labels)
    assert content["model"] == f"{task}@1"
    assert content["usage"]["total_tokens"] > 0


def test_several_tasks_answer_each_text_in_the_requested_order(served: Served, library: MultiTask) -> None:
    tasks = ["stars", "mood", "own", "several", "top", "topmost"]
    content = served.classify(models=tasks, input=list(TEXTS[:3])).raise_for_status().json()
    assert [(item["index"], item["task"]) for item in content["data"]] == [(n, t) for n in range(3) for t in tasks]
    for item in content["data"]:
        (prediction,) = library.predict([TEXTS[item["index"]]], item["task"])
        assert near(of_item(item), json.loads(json.dumps(prediction.to_json())))
    assert content["model"].split(",") == [f"{task}@1" for task in tasks]


def test_response_headers_have_request_id_versions_and_times(served: Served) -> None:
    response = served.post(
        "/v1/classify", {"models": ["mood", "topic"], "input": "a film"}, headers={"X-Request-Id": "abc-1"}
    )
    assert response.headers["x-request-id"] == "abc-1"
    assert response.headers["x-adapter-version"] == "mood@1,topic@1"
    for name in ("x-queue-time", "x-tokenization-time", "x-inference-time"):
        assert float(response.headers[name]) >= 0
    assert response.json()["id"] == "classify-abc-1"
    odd = served.get("/ready", headers={"X-Request-Id": "no spaces, no <tags>"})
    assert odd.headers["x-request-id"].isalnum()


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        ({"model": "nope", "input": "a"}, 404, "not_found", "model"),
        ({"model": "mood@9", "input": "a"}, 404, "not_found", "model"),
        ({"model": "mood@nope", "input": "a"}, 404, "not_found", "model"),
        ({"model": "../mood", "input": "a"}, 422, "malformed", "model"),
        ({"model": "mood", "models": ["mood"], "input": "a"}, 422, "malformed", "model"),
        ({"input": "a"}, 422, "malformed", "model"),
        ({"model": "mood", "input": []}, 422, "malformed", "input"),
        ({"model": "mood", "input": ["a", ""]}, 422, "malformed", "input.1"),
        ({"model": "mood", "input": "  "}, 422, "malformed", "input.0"),
        ({"model": "mood", "input": [["a", "b"]]}, 422, "malformed", "input.0"),
        ({"model": "qa", "input": ["a"]}, 422, "malformed", "input.0"),
        ({"model": "mood", "input": 7}, 422, "malformed", "input"),
        ({"model": "mood", "input": "a", "colour": 1}, 422, "malformed", "colour"),
        ({"model": "mood", "input": "a", "timeout_s": 0}, 422, "malformed", "timeout_s"),
        ({"model": "mood", "input": ["a"] * 1025}, 413, "too_large", "input"),
        ({"model": "mood", "input": "a" * 300_000}, 200, None, None),
    ],
)
def test_invalid_requests_get_the_common_error_body(
    served: Served, body: Any, status: int, code: str | None, param: str | None
) -> None:
    response = served.post("/v1/classify", body)
    assert response.status_code == status, response.text
    if code is None:
        return
    error = response.json()["error"]
    assert set(error) == {"code", "type", "message", "param", "request_id", "retryable"}
    assert error["code"] == code
    assert error["request_id"] == response.headers["x-request-id"]
    assert not error["retryable"]
    if param is not None:
        assert error["param"] == param


@pytest.mark.parametrize(
    ("content", "kind", "message", "param"),
    [
        ('{"model": "mood", "input": []}', "json", "List should have at least 1 item, not 0", "input"),
        ('{"model": "mood", "input": ["a", ["b"]]}', "json", "List should have at least 2 items, not 1", "input.1"),
        ('{"model": "mood", "input": ["a", 7]}', "json", "Input should be a valid string or a valid list", "input.1"),
        ('{"model": "the mood", "input": "a"}', "json", "expected TASK, TASK@VERSION or TASK@ALIAS", "model"),
        ('{"model": "mood", "input": "a", "my-field": 1}', "json", "there is no such field", "my-field"),
        ('{"model": ', "json", "the body is not JSON: Expecting value at character 10", None),
        ('{"model": "mood", "input": "a"}', "x-www-form-urlencoded", "Content-Type: application/json", None),
    ],
)
def test_a_malformed_request_is_told_what_was_expected(
    served: Served, content: str, kind: str, message: str, param: str | None
) -> None:
    response = served.http.post("/v1/classify", content=content, headers={"content-type": f"application/{kind}"})
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (422, param)
    assert message in error["message"]


def test_on_error_null_puts_the_error_in_place_of_the_answer(served: Served) -> None:
    content = served.classify(model="mood", input=["a film", "", "bad"], on_error="null").raise_for_status().json()
    assert [item["label"] is None for item in content["data"]] == [False, True, False]
    assert content["data"][1]["error"] == "the text is empty"


def test_models_are_described_without_paths(served: Served, library: MultiTask) -> None:
    content = served.get("/v1/models").raise_for_status().json()
    assert [model["task"] for model in content["data"]] == sorted(SERVED)
    of = {model["task"]: model for model in content["data"]}
    entry = library.store.entry("mood")
    assert of["mood"]["digest"] == entry.digest
    assert of["mood"]["labels"] == list(entry.labels)
    assert of["mood"]["method"] == {**entry.header.to_object()["method"], "layers": None}
    assert of["qa"]["takes"] == "question+context"
    assert "/" not in json.dumps(content)


def test_health_readiness_stats_and_metrics(served: Served) -> None:
    assert served.get("/health").json() == {"status": "ok"}
    assert served.get("/ready").json() == {"status": "ready"}
    before = served.metric("polytask_rows_total", adapter="mood")
    served.classify(model="mood", input=["a", "b", "c"])
    assert served.metric("polytask_rows_total", adapter="mood") == before + 3
    assert served.get("/v1/stats").json()["rows_per_s"] > 0
    text = served.get("/metrics").text
    for name in (
        'polytask_requests_total{adapter="mood",code="200",route="/v1/classify"}',
        "polytask_request_duration_seconds_bucket",
        "polytask_queue_duration_seconds_count",
        "polytask_tokenization_duration_seconds_sum",
        "polytask_inference_duration_seconds_count",
        "polytask_batch_tokens_bucket",
        "polytask_batch_rows_bucket",
        "polytask_batch_adapters_bucket",
        "polytask_queue_depth 0.0",
        'polytask_adapter_loads_total{result="loaded"}',
        f"polytask_adapters_resident {len(SERVED)}.0",
        "polytask_build_info{",
    ):
        assert name in text, name


def test_unknown_names_add_no_metric_labels(served: Served) -> None:
    for n in range(5):
        served.classify(model=f"made-up-{n}", input="a")
        served.get(f"/made-up-{n}")
    text = served.get("/metrics").text
    assert "made-up" not in text
    assert 'route="unmatched"' in text
