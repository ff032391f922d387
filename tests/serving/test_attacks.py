"""Random requests to every route of the OpenAPI document: no 5xx, only documented codes and shapes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from polytask.backbones.backbone import Backbone
from tests.serving.servers import Served, serving
from tests.serving.stores import SERVED

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed: pip install 'polytask[dev]'")

from schemathesis import GenerationMode  # noqa: E402
from schemathesis.checks import not_a_server_error  # noqa: E402
from schemathesis.specs.openapi.checks import (  # noqa: E402
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
NUM_EXAMPLES, NUM_EXAMPLES_WITHOUT_INPUT = 40, 3


def operations(served: Served) -> list[Any]:
    """All operations; those that unload adapters come last."""
    schema = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
    return sorted((found.ok() for found in schema.get_all_operations()), key=lambda of: of.path.endswith("unload"))


def test_random_requests_get_only_documented_responses(backbone: Backbone, folder: Path) -> None:
    with serving(backbone, folder) as served:
        with requests.Session() as session:
            for operation in operations(served):
                send_random_requests(operation, session)
        counted = {
            (sample.labels["route"], sample.labels["code"])
            for metric in served.service.metrics.requests.collect()
            for sample in metric.samples
        }
        for route in ("/v1/classify", "/classify", "/adapters/{name}/predict", "/v2/models/{name}/versions/{version}"):
            assert {(route, "200"), (route, "422")} <= counted, "some requests were sound, and some were not"
        assert served.service.num_in_flight == 0
        assert served.service.batcher.reserved_tokens == 0
        assert served.get("/health").status_code == 200


def send_random_requests(operation: Any, session: requests.Session) -> None:
    """Send valid and invalid requests; half of them name existing adapters."""

    has_input = any(True for _ in operation.iter_parameters()) or bool(operation.body)

    @settings(
        max_examples=NUM_EXAMPLES if has_input else NUM_EXAMPLES_WITHOUT_INPUT,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(data=st.data())
    def ask(data: Any) -> None:
        mode = data.draw(st.sampled_from([GenerationMode.POSITIVE, GenerationMode.NEGATIVE]))
        case = data.draw(operation.as_strategy(generation_mode=mode))
        if data.draw(st.booleans()):
            use_existing_names(case, data.draw(st.sampled_from(list(SERVED))))
        case.validate_response(case.call(session=session), checks=CHECKS)

    ask()


def use_existing_names(case: Any, task: str) -> None:
    """Replace made-up names by the name of an existing adapter."""
    known = {"name": task, "task": task, "alias": "prod", "version": 1}
    if case.path_parameters:
        case.path_parameters.update({name: known[name] for name in case.path_parameters if name in known})
    if isinstance(case.body, dict):
        case.body.pop("threshold", None)  # a random one fits few tasks
        if "input" in case.body and not case.body.get("models"):
            case.body.pop("models", None)
            case.body |= {"model": task, "input": "a film"}
        case.body.update({name: task for name in ("model",) if case.body.get(name) is not None})
        case.body.update({name: [task] for name in ("models",) if isinstance(case.body.get(name), list)})
