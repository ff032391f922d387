"""The ASGI application: all HTTP dialects over one service, inside the request middleware."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from polytask import __version__
from polytask.serving.api import health, manage, native, oip, tei, vllm, web
from polytask.serving.auth import Keys
from polytask.serving.faults import CODES, Fault
from polytask.serving.middleware import CONTEXT, Context, RequestMiddleware
from polytask.serving.service import Service
from polytask.serving.validation import malformed

ROUTERS = (
    native.routes,
    vllm.routes,
    tei.routes,
    oip.routes,
    manage.routes,
    oip.manage_routes,
    health.routes,
    health.metric_routes,
    web.routes,
    web.schema_routes,
)
MESSAGES = {404: "there is no such route", 405: "this route does not support this method"}


def create_app(service: Service, keys: Keys | None = None, *, with_texts: bool = False) -> FastAPI:
    """An ASGI application that serves ``service`` from startup to shutdown.

    Args:
        keys: None or empty allows everything to clients on this machine.
        with_texts: write the texts of requests to the log.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        try:
            yield
        finally:
            await service.stop()

    app = FastAPI(
        title="Polytask",
        version=__version__,
        description="Many tasks on one frozen transformer.",
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    app.state.service = service
    for router in ROUTERS:
        app.include_router(router)
    app.add_exception_handler(Fault, _on_fault)
    app.add_exception_handler(RequestValidationError, _on_malformed)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_middleware(RequestMiddleware, service=service, keys=keys or Keys(), with_texts=with_texts)
    return app


async def _on_fault(request: Request, error: Any) -> JSONResponse:
    return _response(request, error)


async def _on_malformed(request: Request, error: Any) -> JSONResponse:
    return _response(request, malformed(error.errors()))


async def _on_http_error(request: Request, error: Any) -> JSONResponse:
    context: Context = request.scope[CONTEXT]
    if context.fault is not None:  # FastAPI turns any error while the body is read into 400
        return _response(request, context.fault)
    code = CODES.get(error.status_code, "malformed")
    fault = Fault(code, MESSAGES.get(error.status_code, str(error.detail)))
    return _response(request, fault, error.headers)


def _response(request: Request, fault: Fault, headers: Any = None) -> JSONResponse:
    context: Context = request.scope[CONTEXT]
    context.code = fault.code
    return JSONResponse(fault.to_json(context.request_id), fault.status, {**(headers or {}), **fault.headers()})
