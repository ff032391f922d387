"""The page at ``/``, the list of routes at ``/docs`` and their static files, and ``/openapi.json``."""

from __future__ import annotations

from importlib import resources
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from polytask.serving.api.access import as_json, router

routes = router(None, "page")
schema_routes = router("infer", "page")
TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
}
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def _add_page(path: str, name: str) -> None:
    content = resources.files("polytask.serving").joinpath("static", name).read_bytes()

    async def page() -> Response:
        return Response(content, media_type=TYPES[name.rpartition(".")[2]], headers=HEADERS)

    routes.add_api_route(path, page, methods=["GET"], include_in_schema=False, name=name)


for _path, _name in (
    ("/", "index.html"),
    ("/docs", "docs.html"),
    ("/static/app.js", "app.js"),
    ("/static/docs.js", "docs.js"),
    ("/static/style.css", "style.css"),
    ("/static/icon.svg", "icon.svg"),
):
    _add_page(_path, _name)


@schema_routes.get("/openapi.json", include_in_schema=False)
async def openapi(request: Request) -> JSONResponse:
    """The OpenAPI document."""
    document: dict[str, Any] = request.app.openapi()
    return as_json(document)
