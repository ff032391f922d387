"""Replicas of Ray Serve answer as the library does."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import socket
from pathlib import Path
from typing import Any

import httpx2
import pytest

from polytask.errors import PolytaskError
from polytask.inference.predict import MultiTask
from polytask.serving import ray_serve
from polytask.serving.auth import Keys
from polytask.serving.limits import Limits
from tests.serving.servers import Process

HAS_SERVE = all(importlib.util.find_spec(name) for name in ray_serve.NEEDED)
IS_WANTED = bool(os.environ.get("POLYTASK_TEST_RAY_SERVE"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_more_replicas_than_the_cluster_has_cpus_for_are_refused() -> None:
    ray_serve.check_cpus(4.0, 4, 1.0)
    with pytest.raises(PolytaskError, match="8 replicas with 1 CPUs each do not fit: the Ray cluster has 4 CPUs"):
        ray_serve.check_cpus(4.0, 8, 1.0)


@pytest.mark.skipif(HAS_SERVE, reason="Ray Serve is installed")
def test_without_ray_serve_the_error_names_the_extra(tmp_path: Path) -> None:
    replica = ray_serve.Replica("none", str(tmp_path), Limits(), Keys())
    with pytest.raises(PolytaskError, match=re.escape('pip install "polytask[ray-serve]"')):
        ray_serve.serve(replica, host="127.0.0.1", port=0, num_replicas=1)


@pytest.mark.skipif(not HAS_SERVE, reason="Ray Serve is not installed: pip install 'polytask[ray-serve]'")
@pytest.mark.skipif(not IS_WANTED, reason="takes 30 s or more; set POLYTASK_TEST_RAY_SERVE=1 to run it")
def test_two_replicas_answer_as_the_library_does_and_stop_on_sigterm(
    filled: Path, library: MultiTask, tmp_path: Path
) -> None:
    options = ("--on", "ray", "--replicas", "2", "--port", str(free_port()))
    body: dict[str, Any] = {"models": ["mood", "stars"], "input": ["good film", "bad"]}
    with (
        Process(filled, tmp_path / "log", *options) as process,
        httpx2.Client(base_url=process.url, timeout=60) as http,
    ):
        for _ in range(8):  # so that both replicas answer
            response = http.post("/v1/classify", json=body, headers={"x-request-id": "mine"}).raise_for_status()
            assert response.headers.get_list("x-request-id") == ["mine"]
            assert response.headers["x-adapter-version"] == "mood@1,stars@1"
            for item in response.json()["data"]:
                (expected,) = library.predict([body["input"][item["index"]]], item["task"])
                assert item.get("score") == pytest.approx(expected.score, abs=1e-5)
                assert item.get("label") == expected.label
        assert http.post("/v1/classify", json={"model": "no", "input": "a"}).status_code == 404
        assert http.get("/health").json() == {"status": "ok"}
        process.process.send_signal(signal.SIGTERM)
        assert process.process.wait() == 0
