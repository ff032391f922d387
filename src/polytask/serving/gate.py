"""What stands before every route: identity, keys, sizes, time, and one line of log a request.

Pure ASGI, so that it costs little and sees every request, also those that match no route. Denied by default: with keys
set, only the paths in ``PUBLIC`` are reached without one, by exact comparison; each route then asks for its scope
(``api/access.py``).
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from polytask.serving.auth import SCOPES, Keys
from polytask.serving.faults import Fault, fault_of
from polytask.serving.service import Service

log = logging.getLogger("polytask.serving.requests")

PUBLIC = frozenset(
    (
        *("/", "/docs", "/static/app.js", "/static/docs.js", "/static/style.css", "/static/icon.svg"),
        *("/health", "/ready", "/v2/health/live", "/v2/health/ready"),
    )
)
LOOPBACK = frozenset(("localhost", "127.0.0.1", "[::1]"))
CONTEXT = "polytask"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


@dataclass
class Context:
    """What is known of a request."""

    request_id: str
    start: float
    scopes: frozenset[str] = frozenset()
    key_name: str = ""
    tasks: Sequence[str] = ()
    num_rows: int = 0
    texts: Sequence[Any] = ()
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 0
    code: str = ""
    fault: Fault | None = None
    """What was wrong with the body while it was read."""


class Gate:
    """Middleware around the application.

    Args:
        with_texts: put the texts of requests into the log.
    """

    def __init__(self, app: ASGIApp, service: Service, keys: Keys, with_texts: bool = False) -> None:
        self.app, self.service, self.keys, self.with_texts = app, service, keys, with_texts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        context = Context(request_id_of(headers), time.monotonic())
        scope[CONTEXT] = context
        limited = Limited(receive, context, self.service.limits.body_bytes, self.service.limits.body_s)
        has_body = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                context.status = message["status"]
                own = {"x-request-id": context.request_id, **context.headers}
                if self.service.is_draining or (has_body and not limited.is_over):
                    own["connection"] = "close"
                message["headers"] = [*message["headers"], *((k.encode(), v.encode()) for k, v in own.items())]
            await send(message)

        try:
            self._admit(scope, headers, context)
            await self.app(scope, limited, sending)
        except Exception as error:
            fault = fault_of(error)
            if fault.code == "failed":
                log.exception("a request failed", extra={"request_id": context.request_id})
            if not context.status:
                await respond(fault, context, sending)
        finally:
            self._tell(scope, context)

    def _admit(self, scope: Scope, headers: Headers, context: Context) -> None:
        """Refuse what may not pass, before its body is read.

        Raises:
            Fault: with the reason.
        """
        if not self.keys.are_set:
            check_loopback(headers)
            context.scopes = SCOPES
        else:
            key = self.keys.find(given) if (given := key_of(headers)) is not None else None
            if key is not None:
                context.scopes, context.key_name = key.scopes, key.name
            elif scope["path"] not in PUBLIC:
                what = "the key is not known" if given else "a key is needed: Authorization: Bearer KEY"
                raise Fault("unauthenticated", what)
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self.service.limits.body_bytes:
            raise too_large(self.service.limits.body_bytes)

    def _tell(self, scope: Scope, context: Context) -> None:
        """Metrics, and a line of log."""
        seconds = time.monotonic() - context.start
        route = getattr(scope.get("route"), "path", "unmatched")
        metrics = self.service.metrics
        metrics.requests.labels(route, metrics.label(context.tasks), str(context.status or 499)).inc()
        metrics.seconds["request"].observe(seconds)
        if context.status >= 400 or context.code:
            metrics.rejected.labels(context.code or str(context.status)).inc()
        said: dict[str, Any] = {
            "request_id": context.request_id,
            "method": scope["method"],
            "route": route,
            "status": context.status or 499,
            "duration_s": round(seconds, 6),
            "rows": context.num_rows,
            "adapters": list(context.tasks)[:8],
            "client": (scope.get("client") or ("",))[0],
        }
        said |= {name: value for name, value in (("key", context.key_name), ("code", context.code)) if value}
        if self.with_texts:
            said["texts"] = list(context.texts)
        log.info("request", extra=said)


class Limited:
    """A ``receive`` that gives up on bodies that are too large or too slow."""

    def __init__(self, receive: Receive, context: Context, most_bytes: int, most_s: float) -> None:
        self.receive, self.context, self.most_bytes = receive, context, most_bytes
        self.until = time.monotonic() + most_s
        self.most_s = most_s
        self.num_bytes = 0
        self.is_over = False

    async def __call__(self) -> Message:
        """The next message."""
        if self.is_over:
            return await self.receive()
        try:
            message = await asyncio.wait_for(self.receive(), max(0.0, self.until - time.monotonic()))
        except asyncio.TimeoutError:
            raise self._noted(Fault("slow_request", f"the body did not arrive within {self.most_s:g} s")) from None
        self.num_bytes += len(message.get("body", b""))
        self.is_over = not message.get("more_body", False)
        if self.num_bytes > self.most_bytes:
            raise self._noted(too_large(self.most_bytes))
        return message

    def _noted(self, fault: Fault) -> Fault:
        self.context.fault = fault
        return fault


def too_large(most_bytes: int) -> Fault:
    """What is said of a body that is too large."""
    return Fault("too_large", f"the body is larger than {most_bytes:,} bytes. Send several requests")


def request_id_of(headers: Headers) -> str:
    """The client's own, if it can stand in a header and a log; else a new one."""
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def key_of(headers: Headers) -> str | None:
    """The key of ``Authorization: Bearer KEY`` or ``X-API-Key: KEY``; None where there is none, or more than one."""
    given = headers.getlist("authorization") + headers.getlist("x-api-key")
    if len(given) != 1:
        return None
    if "x-api-key" in headers:
        return given[0]
    scheme, _, key = given[0].partition(" ")
    return key.strip() if scheme.lower() == "bearer" else None


def check_loopback(headers: Headers) -> None:
    """Without keys only programs of this machine may ask: no page of another site through its user's browser.

    Raises:
        Fault: the host or the origin is another.
    """
    if host_of(headers.get("host", "localhost")) not in LOOPBACK:
        raise Fault("wrong_host", "without keys this server answers as localhost only")
    origin = headers.get("origin")
    if origin is not None and host_of(origin.partition("://")[2]) not in LOOPBACK:
        raise Fault("forbidden", "without keys this server does not answer pages of other sites")


def host_of(given: str) -> str:
    """``localhost`` of ``LOCALHOST:8000``."""
    return re.sub(r":\d*$", "", given.lower())


async def respond(fault: Fault, context: Context, send: Send) -> None:
    """Send a fault as a response."""
    context.code = fault.code
    body = json.dumps(fault.to_json(context.request_id)).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **fault.headers()}
    given = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": fault.status, "headers": given})
    await send({"type": "http.response.body", "body": body})
