"""Every route of the OpenAPI document under random requests: no 5xx, documented codes and shapes only."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.serving.servers import Served

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed: pip install 'polytask[dev]'")

from schemathesis.checks import not_a_server_error  # noqa: E402
from schemathesis.specs.openapi.checks import (  # noqa: E402
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
NUM_EXAMPLES = 30


def operations(served: Served) -> list[Any]:
    schema = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
    return [found.ok() for found in schema.get_all_operations()]


def test_random_requests_get_documented_answers_only(served: Served) -> None:
    """Unloading is left out: later requests would find nothing to ask."""
    tried = 0
    for operation in operations(served):
        if operation.path.endswith("unload"):
            continue

        @settings(
            max_examples=NUM_EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @_given(operation)
        def ask(case: Any) -> None:
            response = case.call()
            case.validate_response(response, checks=CHECKS)

        ask()
        tried += 1
    assert tried >= 20
    assert served.classify(model="mood", input="a").status_code == 200
    assert served.service.num_in_flight == 0
    assert served.service.batcher.reserved_tokens == 0


def _given(operation: Any) -> Any:
    from hypothesis import given
    from hypothesis import strategies as st
    from schemathesis import GenerationMode

    modes = st.sampled_from([GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
    return given(case=modes.flatmap(lambda mode: operation.as_strategy(generation_mode=mode)))
