"""The native API: items are the library's ``Prediction.to_json()`` with ``index`` and ``num_classes``."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse

from polytask.adapters.store import Entry
from polytask.evaluation.decision import DecisionOptions
from polytask.inference.precision import fitted_elsewhere
from polytask.inference.prediction import Prediction
from polytask.serving.api.access import as_json, ok, queries_of, router, run_queries, service_of
from polytask.serving.faults import Fault, fault_of
from polytask.serving.middleware import CONTEXT
from polytask.serving.schemas import ClassifyRequest, ClassifyResponse, Models, Stats
from polytask.serving.service import Service, VersionAnswer

routes = router("infer", "native")


@routes.post("/v1/classify", responses=ok(ClassifyResponse))
async def classify(request: Request, body: ClassifyRequest) -> JSONResponse:
    """Classify texts with one task or several."""
    if (body.model is None) == (body.models is None):
        raise Fault("malformed", "give exactly one of model and models", param="model")
    references = tuple(dict.fromkeys([body.model] if body.model is not None else body.models or ()))
    options = DecisionOptions(body.calibrated, threshold=body.threshold)
    queries = queries_of(body.input, references, options)
    found = await run_queries(request, queries, timeout_s=body.timeout_s, partial=body.on_error == "null")
    data = [item(at, one) for at, row in enumerate(found.rows) for one in row]
    return as_json(
        {
            "id": f"classify-{request.scope[CONTEXT].request_id}",
            "object": "classification",
            "model": ",".join(map(str, found.entries)),
            "data": data,
            "usage": {"prompt_tokens": found.num_tokens, "total_tokens": found.num_tokens},
        }
    )


def item(index: int, given: VersionAnswer) -> dict[str, Any]:
    """One answer, or the error in its place."""
    answer = given.answer
    if not isinstance(answer, Prediction):
        message = str(answer) if isinstance(answer, ValueError) else fault_of(answer).message
        answer = Prediction(given.entry.task, error=message)
    return {"index": index, **answer.to_json(), "num_classes": len(given.entry.labels)}


@routes.get("/v1/models", responses=ok(Models))
async def models(request: Request) -> JSONResponse:
    """All versions that are served, and those that are refused."""
    service = service_of(request)
    entries = service.catalog.entries()
    latest = {entry.task: entry.version for entry in entries}  # sorted by number: the last one stays
    data = [model(service, entry, latest[entry.task]) for entry in entries]
    refused = [{"id": name, "reason": refusal.reason} for name, refusal in service.catalog.refusals().items()]
    return as_json(
        {"object": "list", "backbone": PurePath(service.backbone.name).name, "data": data, "refused": refused}
    )


def model(service: Service, entry: Entry, latest: int) -> dict[str, Any]:
    """The description of a version, without paths."""
    header, aliases = entry.header, service.catalog.aliases(entry.task)
    return {
        "id": str(entry),
        "object": "model",
        "task": entry.task,
        "version": entry.version,
        "is_latest": entry.version == latest,
        "aliases": sorted(alias for alias, version in aliases.items() if version == entry.version),
        "share": service.catalog.shares(entry.task).get(entry.version),
        "digest": entry.digest,
        "kind": header.head.kind,
        "takes": header.takes,
        "labels": list(entry.labels),
        "calibration": header.calibration,
        "thresholds": header.thresholds,
        "none": header.none,
        "method": header.to_object()["method"],
        "metric": entry.metric,
        "score": entry.score,
        "size_bytes": entry.size_bytes,
        "is_resident": str(entry) in service.residency,
        "created": entry.created,
        "warning": fitted_elsewhere(header, service.precision),
    }


@routes.get("/v1/stats", responses=ok(Stats))
async def stats(request: Request) -> JSONResponse:
    """Throughput, load and memory."""
    return as_json(service_of(request).stats())
