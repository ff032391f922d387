"""Shared by all routes: the check of scopes, the call to the service, response headers, and errors in OpenAPI."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Request, Security
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from pydantic_core import to_json

from polytask.evaluation.decision import DecisionOptions
from polytask.serving.admission import Query
from polytask.serving.auth import Scope
from polytask.serving.faults import Fault
from polytask.serving.middleware import CONTEXT, Context
from polytask.serving.schemas import ErrorBody
from polytask.serving.service import QueryResult, Service

T = TypeVar("T")

bearer = HTTPBearer(auto_error=False, description="A key with the scope of the route.")
ERRORS = {
    401: "No key, or an unknown key",
    403: "The key lacks the scope",
    404: "No such adapter",
    405: "The route does not support this method",
    408: "The body arrived too slowly",
    409: "The adapter belongs to another backbone, or its file is refused",
    413: "Too large",
    421: "Wrong host name",
    422: "Malformed",
    429: "The queue is full; see Retry-After",
    500: "The server failed",
    503: "Shutting down, or unhealthy",
    504: "The deadline passed",
}


def router(scope: Scope | None, tag: str) -> APIRouter:
    """A router whose routes all require ``scope``; None for public routes."""
    errors: dict[int | str, dict[str, Any]] = {
        status: {"model": ErrorBody, "description": text} for status, text in ERRORS.items()
    }
    return APIRouter(dependencies=[] if scope is None else [requires(scope)], responses=errors, tags=[tag])


def requires(scope: Scope) -> Any:
    """A dependency that rejects requests whose key lacks the scope."""

    async def check(request: Request, _: Annotated[Any, Security(bearer)]) -> None:
        context: Context = request.scope[CONTEXT]
        if scope not in context.scopes:
            raise Fault("forbidden", f"the key lacks the scope {scope!r}")

    check.scope = scope  # type: ignore[attr-defined]
    return Depends(check)


def service_of(request: Request) -> Service:
    """The application's service."""
    service: Service = request.app.state.service
    return service


def queries_of(
    given: str | Sequence[str | Sequence[str]], references: Sequence[str], options: DecisionOptions
) -> list[Query]:
    """The queries of a field ``input``: a text, or a list of texts and pairs."""
    texts: Sequence[Any] = [given] if isinstance(given, str) else given
    return [
        Query(text if isinstance(text, str) else tuple(text), tuple(references), f"input.{at}", options)
        for at, text in enumerate(texts)
    ]


async def run_queries(request: Request, queries: Sequence[Query], **options: Any) -> QueryResult:
    """Run queries, until the client disconnects; adds the response headers and the fields of the log line."""
    context: Context = request.scope[CONTEXT]
    context.tasks = list(
        dict.fromkeys(reference.partition("@")[0] for query in queries for reference in query.references)
    )
    context.tasks = [task for task in context.tasks if task in service_of(request).catalog]
    context.num_rows = sum(len(query.references) for query in queries)
    context.texts = [query.text for query in queries]
    found = await cancel_on_disconnect(request, service_of(request).answer(queries, **options))
    context.headers = {
        "x-adapter-version": ",".join(dict.fromkeys(map(str, found.entries))),
        "x-tokenization-time": milliseconds(found.tokenization_s),
        "x-queue-time": milliseconds(found.queue_s),
        "x-inference-time": milliseconds(found.inference_s),
    }
    return found


def milliseconds(seconds: float) -> str:
    """The unit that these headers have in TEI."""
    return f"{seconds * 1000:.3f}"


async def cancel_on_disconnect(request: Request, coroutine: Coroutine[Any, Any, T]) -> T:
    """Await a coroutine; cancel it when the client disconnects.

    Raises:
        Fault: the client has disconnected.
    """
    task = asyncio.create_task(coroutine)
    disconnected = asyncio.create_task(_disconnect(request))
    try:
        await asyncio.wait({task, disconnected}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise Fault("client_gone", "the client has disconnected")
    finally:
        for other in (task, disconnected):
            other.cancel()
        await asyncio.gather(task, disconnected, return_exceptions=True)


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class QuickJSONResponse(JSONResponse):
    """A JSON response that pydantic writes, several times as fast as the standard library."""

    def render(self, content: Any) -> bytes:
        """The body; a number that is not finite becomes null."""
        return to_json(content, inf_nan_mode="null")


def as_json(body: Any, status: int = 200) -> JSONResponse:
    """A JSON response that FastAPI does not validate again."""
    return QuickJSONResponse(body, status)


def ok(model: Any, description: str = "Answered") -> dict[int | str, dict[str, Any]]:
    """The entry for a successful response in OpenAPI."""
    return {200: {"model": model, "description": description}}
