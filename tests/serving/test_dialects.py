"""The vLLM, TEI and Open Inference dialects: response shapes for every kind of head."""

from __future__ import annotations

from typing import Any

import pytest

from polytask.inference.predict import MultiTask
from tests.serving.servers import Served
from tests.serving.stores import SERVED

CONTEXT = "the team won the match at five and the actor was great"
TEXTS = ["good film", "an awful plot"]


def asked_of(task: str) -> list[Any]:
    return [[text, CONTEXT] for text in TEXTS] if task == "qa" else TEXTS


@pytest.mark.parametrize("task", SERVED)
def test_vllm_probs_are_a_list_in_the_order_of_the_labels(served: Served, library: MultiTask, task: str) -> None:
    content = served.post("/classify", {"model": task, "input": asked_of(task), "user": "x"}).raise_for_status().json()
    assert (content["object"], content["model"]) == ("list", f"{task}@1")
    for number, item in enumerate(content["data"]):
        own = served.classify(model=task, input=[asked_of(task)[number]]).json()["data"][0]
        assert item["index"] == number
        assert item["num_classes"] == len(item["probs"])
        if "probs" in own:
            assert item["probs"] == pytest.approx([own["probs"][label] for label in library.store.entry(task).labels])
        else:
            assert item["probs"] == pytest.approx([own["score"]])
        if task not in ("stars", "several", "qa"):
            assert item["label"] == own["label"]


def test_tei_accepts_a_text_a_pair_and_a_batch(served: Served) -> None:
    single = served.post("/adapters/mood/predict", {"inputs": "good film"}).raise_for_status().json()
    assert [set(score) for score in single] == [{"label", "score"}] * 2
    assert single[0]["score"] >= single[1]["score"]
    batch = served.post("/adapters/mood/predict", {"inputs": [["good film"], ["bad"]]}).raise_for_status().json()
    assert len(batch) == 2
    assert batch[0][0]["score"] == pytest.approx(single[0]["score"], abs=1e-5)
    pair = served.post("/adapters/qa@1/predict", {"inputs": ["who won", CONTEXT]}).raise_for_status().json()
    assert pair[0]["label"] in CONTEXT
    assert served.post("/adapters/stars/predict", {"inputs": "a"}).json()[0]["label"] == "score"
    assert served.post("/predict", {"inputs": "a", "model": "mood"}).status_code == 200
    assert served.post("/predict", {"inputs": "a"}).json()["error"]["param"] == "model"
    assert served.post("/adapters/nope/predict", {"inputs": "a"}).status_code == 404


@pytest.mark.parametrize("task", SERVED)
def test_oip_outputs_have_the_shapes_of_the_metadata(served: Served, task: str) -> None:
    metadata = served.get(f"/v2/models/{task}").raise_for_status().json()
    names = [tensor["name"] for tensor in metadata["inputs"]]
    columns = {"text": TEXTS, "text_pair": [CONTEXT] * 2}
    inputs = [{"name": n, "shape": [2], "datatype": "BYTES", "data": columns[n]} for n in names]
    content = served.post(f"/v2/models/{task}/infer", {"id": "7", "inputs": inputs}).raise_for_status().json()
    assert (content["id"], content["model_name"], content["model_version"]) == ("7", task, "1")
    assert [t["name"] for t in content["outputs"]] == [t["name"] for t in metadata["outputs"]]
    for tensor, promised in zip(content["outputs"], metadata["outputs"], strict=True):
        assert tensor["datatype"] == promised["datatype"]
        assert tensor["shape"] == [2, *promised["shape"][1:]]
        count = 1
        for size in tensor["shape"]:
            count *= size
        assert len(tensor["data"]) == count
    own = served.classify(model=task, input=asked_of(task)).json()["data"]
    outputs = {tensor["name"]: tensor["data"] for tensor in content["outputs"]}
    if "label" in outputs:
        assert outputs["label"] == [item["label"] for item in own]
    if "answer" in outputs:
        assert [CONTEXT[a:b] for a, b in zip(outputs["start"], outputs["end"])] == outputs["answer"]


def test_oip_health_versions_and_repository_routes(served: Served) -> None:
    assert served.get("/v2").json()["name"] == "polytask"
    assert served.get("/v2/health/live").json() == {"live": True}
    assert served.get("/v2/health/ready").json() == {"ready": True}
    assert served.get("/v2/models/mood/ready").json() == {"name": "mood", "ready": True}
    assert served.get("/v2/models/mood/versions/1/ready").status_code == 200
    assert served.get("/v2/models/mood/versions/2").status_code == 404
    assert served.get("/v2/models/mood/versions/0").status_code == 422
    assert {entry["name"] for entry in served.post("/v2/repository/index").json()} == set(SERVED)
    one = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}]}
    assert served.post("/v2/models/mood/versions/1/infer", one).status_code == 200


@pytest.mark.parametrize(
    "inputs",
    [
        [{"name": "text", "shape": [3], "datatype": "BYTES", "data": ["a", "b"]}],
        [{"name": "text", "shape": [2, 2], "datatype": "BYTES", "data": ["a", "b"]}],
        [{"name": "other", "shape": [1], "datatype": "BYTES", "data": ["a"]}],
        [{"name": "text", "shape": [1], "datatype": "FP32", "data": [1.0]}],
        [{"name": "text", "shape": [0], "datatype": "BYTES", "data": []}],
        [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}] * 2,
        [],
    ],
)
def test_oip_refuses_invalid_tensors(served: Served, inputs: Any) -> None:
    assert served.post("/v2/models/mood/infer", {"inputs": inputs}).status_code == 422
