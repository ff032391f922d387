"""Every route of the OpenAPI document under random requests: no 5xx, documented codes and shapes only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
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
NUM_EXAMPLES = 40


def operations(served: Served) -> list[Any]:
    """All of them; what takes adapters away comes last."""
    schema = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
    return sorted((found.ok() for found in schema.get_all_operations()), key=lambda of: of.path.endswith("unload"))


def test_random_requests_get_documented_answers_only(backbone: Backbone, folder: Path) -> None:
    with serving(backbone, folder) as served:
        for operation in operations(served):
            ask_all_ways(operation)
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


def ask_all_ways(operation: Any) -> None:
    """Requests as the document has them, and others; half of them name adapters that there are."""

    @settings(
        max_examples=NUM_EXAMPLES,
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
            name_what_there_is(case, data.draw(st.sampled_from(list(SERVED))))
        case.validate_response(case.call(), checks=CHECKS)

    ask()


def name_what_there_is(case: Any, task: str) -> None:
    """Put the name of an adapter where the request has a made-up one."""
    known = {"name": task, "task": task, "alias": "prod", "version": 1}
    if case.path_parameters:
        case.path_parameters.update({name: known[name] for name in case.path_parameters if name in known})
    if isinstance(case.body, dict):
        case.body.update({name: task for name in ("model",) if case.body.get(name) is not None})
        case.body.update({name: [task] for name in ("models",) if isinstance(case.body.get(name), list)})
