"""The same application as a replica of Ray Serve answers as the library does."""

from __future__ import annotations

import importlib.util
import re
import signal
import socket
from pathlib import Path

import httpx2
import pytest

from polytask.errors import PolytaskError
from polytask.inference.predict import MultiTask
from polytask.serving import on_ray
from polytask.serving.auth import Keys
from polytask.serving.limits import Limits
from tests.serving.servers import Process


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


HAS_SERVE = all(importlib.util.find_spec(name) for name in on_ray.NEEDED)


def test_what_does_not_fit_is_refused_before_anything_waits_for_it() -> None:
    on_ray.check_cpus(4.0, 4, 1.0)
    with pytest.raises(PolytaskError, match="8 replicas with 1 CPUs each do not fit: the Ray cluster has 4 CPUs"):
        on_ray.check_cpus(4.0, 8, 1.0)


@pytest.mark.skipif(HAS_SERVE, reason="Ray Serve is installed")
def test_without_ray_serve_the_extra_is_named(tmp_path: Path) -> None:
    replica = on_ray.Replica("none", str(tmp_path), Limits(), Keys())
    with pytest.raises(PolytaskError, match=re.escape('pip install "polytask[ray-serve]"')):
        on_ray.serve(replica, host="127.0.0.1", port=0, num_replicas=1)


@pytest.mark.skipif(not HAS_SERVE, reason="Ray Serve is not installed: pip install 'polytask[ray-serve]'")
def test_a_replica_answers_as_the_library_does(filled: Path, library: MultiTask, tmp_path: Path) -> None:
    options = ("--on", "ray", "--replicas", "1", "--port", str(free_port()))
    with Process(filled, tmp_path / "log", *options) as process:
        body = {"models": ["mood", "stars"], "input": ["good film", "bad"]}
        response = httpx2.post(f"{process.url}/v1/classify", json=body, timeout=60).raise_for_status()
        assert response.headers["x-adapter-version"] == "mood@1,stars@1"
        for item in response.json()["data"]:
            (expected,) = library.predict([body["input"][item["index"]]], item["task"])
            assert item.get("score") == pytest.approx(expected.score, abs=1e-5)
            assert item.get("label") == expected.label
        assert (
            httpx2.post(f"{process.url}/v1/classify", json={"model": "no", "input": "a"}, timeout=60).status_code == 404
        )
        assert process.terminate() in (0, -signal.SIGTERM)
