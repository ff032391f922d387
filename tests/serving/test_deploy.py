"""The files in ``deploy/``: fields and types of the KServe manifest, the systemd unit, the options they pass."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from polytask.serving.limits import Limits
from tests.cli.test_cli import polytask

DEPLOY = Path(__file__).parents[2] / "deploy"

PROBE: dict[str, Any] = {
    "httpGet": {"path": str, "port": int},
    "periodSeconds": int,
    "timeoutSeconds": int,
    "initialDelaySeconds": int,
    "failureThreshold": int,
}
RESOURCES: dict[str, Any] = {"cpu": str, "memory": str}
CONTAINER: dict[str, Any] = {
    "name": str,
    "image": str,
    "args": [str],
    "env": [{"name": str, "value": str, "valueFrom": {"secretKeyRef": {"name": str, "key": str}}}],
    "ports": [{"containerPort": int, "protocol": str, "name": str}],
    "readinessProbe": PROBE,
    "livenessProbe": PROBE,
    "startupProbe": PROBE,
    "resources": {"requests": RESOURCES, "limits": RESOURCES},
}
INFERENCE_SERVICE: dict[str, Any] = {
    "apiVersion": str,
    "kind": str,
    "metadata": {"name": str, "namespace": str},
    "spec": {
        "predictor": {
            "minReplicas": int,
            "maxReplicas": int,
            "scaleMetric": str,
            "scaleTarget": int,
            "containerConcurrency": int,
            "timeout": int,
            "terminationGracePeriodSeconds": int,
            "serviceAccountName": str,
            "containers": [CONTAINER],
        }
    },
}
"""The fields of ``serving.kserve.io/v1beta1`` (KServe 0.21) and of a Kubernetes container that a manifest may use."""


def problems(value: Any, schema: Any, where: str = "") -> list[str]:
    """Fields that the schema does not have, and values of another type."""
    if isinstance(schema, dict) and isinstance(value, dict):
        known = [(name, own) for name, own in value.items() if name in schema]
        unknown = [f"{where}.{name} is unknown" for name in value if name not in schema]
        return unknown + [line for name, own in known for line in problems(own, schema[name], f"{where}.{name}")]
    if isinstance(schema, list) and isinstance(value, list):
        return [line for at, own in enumerate(value) for line in problems(own, schema[0], f"{where}[{at}]")]
    return [] if isinstance(schema, type) and type(value) is schema else [f"{where} has the wrong type"]


@pytest.fixture
def manifest() -> dict[str, Any]:
    return dict(yaml.safe_load((DEPLOY / "kserve.yaml").read_text(encoding="utf-8")))


def test_the_kserve_manifest_has_fields_and_types_of_the_schema(manifest: dict[str, Any]) -> None:
    assert problems(manifest, INFERENCE_SERVICE) == []
    assert (manifest["apiVersion"], manifest["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    predictor = manifest["spec"]["predictor"]
    assert predictor["scaleMetric"] in ("cpu", "memory", "concurrency", "rps")
    assert predictor["minReplicas"] <= predictor["maxReplicas"]
    assert predictor["terminationGracePeriodSeconds"] > Limits.drain_s + Limits.linger_s
    predictor["colour"] = predictor["containers"][0]["ports"][0]["containerPort"] = "blue"
    assert len(problems(manifest, INFERENCE_SERVICE)) == 2


def test_the_kserve_manifest_names_routes_and_options_that_there_are(manifest: dict[str, Any]) -> None:
    (container,) = manifest["spec"]["predictor"]["containers"]
    assert container["name"] == "kserve-container", "KServe finds the container by this name"
    probes = [container["readinessProbe"], container["livenessProbe"]]
    assert [probe["httpGet"]["path"] for probe in probes] == ["/v2/health/ready", "/health"]
    ports = {probe["httpGet"]["port"] for probe in probes} | {port["containerPort"] for port in container["ports"]}
    assert ports == {int(container["args"][container["args"].index("--port") + 1])}
    assert [name for name in container["args"] if name.startswith("--") and name not in options_of_serve()] == []


def test_the_systemd_unit_and_the_dockerfile_name_options_that_there_are() -> None:
    for name in ("polytask.service", "Dockerfile"):
        (line,) = re.findall(r"^(?:ExecStart=|ENTRYPOINT ).*serve.*", (DEPLOY / name).read_text(encoding="utf-8"), re.M)
        named = re.findall(r"--[a-z-]+", line)
        assert named
        assert set(named) <= options_of_serve()


def options_of_serve() -> set[str]:
    """The options of ``polytask serve``."""
    return set(re.findall(r"--[a-z-]+", polytask("serve", "--help").stdout))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    unit = (
        (DEPLOY / "polytask.service").read_text(encoding="utf-8").replace("/opt/polytask/bin/polytask", sys.executable)
    )
    (tmp_path / "polytask.service").write_text(unit, encoding="utf-8")
    command = ["systemd-analyze", "verify", "--man=no", str(tmp_path / "polytask.service")]
    verified = subprocess.run(command, capture_output=True, text=True)
    assert (verified.returncode, verified.stderr) == (0, "")
