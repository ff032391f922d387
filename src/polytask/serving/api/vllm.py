"""vLLM's ``POST /classify``: ``probs`` is a list in the order of the labels.

Kinds of tasks that vLLM does not have use the same shape: regression has its value as the only entry of ``probs``, and
its ``interval`` if it is calibrated; multi-label tasks have the most likely assigned label as ``label`` (null if there
is none) and all assigned labels in ``labels``; question answering has the text of the span as ``label``, with ``start``
and ``end`` beside it. An answer below its threshold has the label null, and ``abstained``; one of none of the labels
``none`` too.
"""

from __future__ import annotations

import time
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse

from polytask.evaluation.decision import DecisionOptions
from polytask.inference.prediction import Prediction
from polytask.serving.api.access import as_json, ok, queries_of, router, run_queries
from polytask.serving.dialect_schemas import VllmRequest, VllmResponse
from polytask.serving.middleware import CONTEXT
from polytask.serving.service import VersionAnswer

routes = router("infer", "vLLM")


@routes.post("/classify", responses=ok(VllmResponse))
async def classify(request: Request, body: VllmRequest) -> JSONResponse:
    """Classify texts with one task."""
    options = DecisionOptions(body.calibrated, threshold=body.threshold)
    found = await run_queries(request, queries_of(body.input, (body.model,), options))
    usage = {"prompt_tokens": found.num_tokens, "total_tokens": found.num_tokens, "completion_tokens": 0}
    return as_json(
        {
            "id": f"classify-{request.scope[CONTEXT].request_id}",
            "object": "list",
            "created": int(time.time()),
            "model": str(found.entries[0]),
            "data": [item(at, row[0]) for at, row in enumerate(found.rows)],
            "usage": {**usage, "prompt_tokens_details": None},
        }
    )


def item(index: int, given: VersionAnswer) -> dict[str, Any]:
    """One answer."""
    answer = given.answer
    assert isinstance(answer, Prediction), "errors are raised before"
    own: dict[str, Any] = {"index": index, "label": label_of(answer), "probs": numbers_of(answer)}
    own["num_classes"] = len(numbers_of(answer))
    if answer.labels is not None:
        own["labels"] = list(answer.labels)
    if answer.abstained:
        own["abstained"] = True
    if answer.none:
        own["none"] = True
    if answer.interval is not None:
        own["interval"] = list(answer.interval)
    if answer.answer is not None:
        own |= {"start": answer.start, "end": answer.end}
    return own


def label_of(answer: Prediction) -> str | None:
    """The label; for multi-label the most likely assigned one; for spans the text; for regression None."""
    if answer.labels is not None:
        probs = answer.probs or {}
        return max(answer.labels, key=lambda label: probs[label], default=None)
    return answer.answer if answer.answer is not None else answer.label


def numbers_of(answer: Prediction) -> list[float]:
    """The probabilities of all labels, or the single value."""
    if answer.probs is not None:
        return list(answer.probs.values())
    return [] if answer.score is None else [answer.score]
