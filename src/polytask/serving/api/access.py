"""What all routes share: the scope that each needs, the answer of the service, the headers, the errors in OpenAPI."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Request, Security
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer

from polytask.serving.auth import Scope
from polytask.serving.faults import Fault
from polytask.serving.gate import CONTEXT, Context
from polytask.serving.schemas import ErrorBody
from polytask.serving.service import Answered, Ask, Service

T = TypeVar("T")

bearer = HTTPBearer(auto_error=False, description="A key with the scope of the route.")
ERRORS = {
    401: "No key, or one that is not known",
    403: "The key lacks the scope",
    404: "No such adapter",
    405: "No such method here",
    408: "The body arrived too slowly",
    409: "The adapter belongs to another backbone, or is refused",
    413: "Too large",
    421: "Not this server's host",
    422: "Malformed",
    429: "The queue is full; see Retry-After",
    500: "The server failed",
    503: "Shutting down, or not well",
    504: "Past the deadline",
}


def router(scope: Scope | None, tag: str) -> APIRouter:
    """A router whose every route needs ``scope``; None for what everybody may see."""
    errors: dict[int | str, dict[str, Any]] = {
        status: {"model": ErrorBody, "description": said} for status, said in ERRORS.items()
    }
    return APIRouter(dependencies=[] if scope is None else [needs(scope)], responses=errors, tags=[tag])


def needs(scope: Scope) -> Any:
    """A dependency that refuses requests whose key lacks the scope."""

    async def check(request: Request, _: Annotated[Any, Security(bearer)]) -> None:
        context: Context = request.scope[CONTEXT]
        if scope not in context.scopes:
            raise Fault("forbidden", f"the key has no scope {scope!r}")

    check.scope = scope  # type: ignore[attr-defined]
    return Depends(check)


def service_of(request: Request) -> Service:
    """The service that this application serves."""
    service: Service = request.app.state.service
    return service


async def answered(request: Request, asks: Sequence[Ask], **options: Any) -> Answered:
    """The service's answer, unless the client goes away; headers and log are told of it."""
    context: Context = request.scope[CONTEXT]
    context.tasks = list(dict.fromkeys(reference.partition("@")[0] for ask in asks for reference in ask.references))
    context.tasks = [task for task in context.tasks if task in service_of(request).catalog]
    context.num_rows = sum(len(ask.references) for ask in asks)
    context.texts = [ask.text for ask in asks]
    found = await unless_gone(request, service_of(request).ask(asks, **options))
    context.headers = {
        "x-adapter-version": ",".join(dict.fromkeys(map(str, found.entries))),
        "x-tokenization-time": milliseconds(found.tokenization_s),
        "x-queue-time": milliseconds(found.queue_s),
        "x-inference-time": milliseconds(found.inference_s),
    }
    return found


def milliseconds(seconds: float) -> str:
    """The unit of these headers in TEI."""
    return f"{seconds * 1000:.3f}"


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What the work gives; it is cancelled when the client hangs up.

    Raises:
        Fault: the client has gone.
    """
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise Fault("client_gone", "the client has gone")
    finally:
        for other in (task, gone):
            other.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def as_json(body: Any, status: int = 200) -> JSONResponse:
    """A response that is what it is, not validated once more."""
    return JSONResponse(body, status)


def ok(model: Any, description: str = "Answered") -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of a route's success."""
    return {200: {"model": model, "description": description}}
