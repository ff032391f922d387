"""Health, readiness and metrics, for load balancers and Prometheus; health and readiness need no key."""

from __future__ import annotations

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from polytask.serving.api.access import as_json, ok, router, service_of
from polytask.serving.dialect_schemas import Live, Ready
from polytask.serving.faults import Fault
from polytask.serving.schemas import Status

routes = router(None, "health")
metric_routes = router("metrics", "metrics")


@routes.get("/health", responses=ok(Status, "A forward pass succeeded"))
async def health(request: Request) -> JSONResponse:
    """Run a forward pass through the backbone."""
    await service_of(request).probe()
    return as_json({"status": "ok"})


@routes.get("/ready", responses=ok(Status, "Requests are accepted"))
async def ready(request: Request) -> JSONResponse:
    """Whether requests are accepted: not before the store was read, nor during shutdown."""
    if not service_of(request).is_ready:
        raise Fault("draining", "the server is not ready", retry_after_s=1)
    return as_json({"status": "ready"})


@routes.get("/v2/health/live", responses=ok(Live))
async def live() -> JSONResponse:
    """Whether the process answers."""
    return as_json({"live": True})


@routes.get("/v2/health/ready", responses=ok(Ready))
async def v2_ready(request: Request) -> JSONResponse:
    """As ``/ready``."""
    await ready(request)
    return as_json({"ready": True})


@metric_routes.get("/metrics", responses={200: {"content": {"text/plain": {}}, "description": "Prometheus"}})
async def metrics(request: Request) -> Response:
    """Metrics in Prometheus' text format."""
    service = service_of(request)
    own = service.metrics
    own.queue_depth.set(len(service.batcher.queue))
    own.queue_tokens.set(service.batcher.reserved_tokens)
    own.resident.set(len(service.residency))
    own.resident_bytes.set(service.residency.num_bytes)
    return Response(own.exposition(), media_type="text/plain; version=0.0.4")
