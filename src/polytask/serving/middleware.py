"""The middleware around every route: authentication, size and time limits, metrics, and one log line per request.

Pure ASGI, so that it is cheap and sees every request, including those that match no route. Access is denied by default:
with keys set, only the paths in ``PUBLIC`` are served without one, by exact comparison. Each route then checks its
scope (``api/access.py``).
"""

from __future__ import annotations

import asyncio
import ipaddress
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
from polytask.serving.limits import Limits
from polytask.serving.service import Service

log = logging.getLogger("polytask.serving.requests")

PUBLIC = frozenset(
    (
        *("/", "/docs", "/static/app.js", "/static/docs.js", "/static/style.css", "/static/icon.svg"),
        *("/health", "/ready", "/v2/health/live", "/v2/health/ready"),
    )
)
CONTEXT = "polytask"
MAX_LOGGED_ADAPTERS = 8
CLIENT_GONE = 499
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


REST_BYTES, REST_S = 1 << 16, 0.2
"""How much of a body is read, and for how long, when a request was answered without it."""


@dataclass
class Context:
    """State of a request, in the ASGI scope under ``CONTEXT``."""

    request_id: str
    start: float
    method: str
    scopes: frozenset[str] = frozenset()
    key_name: str = ""
    tasks: Sequence[str] = ()
    num_rows: int = 0
    texts: Sequence[Any] = ()
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 0
    code: str = ""
    fault: Fault | None = None
    """An error that occurred while the body was read."""


@dataclass
class BodyBytes:
    """Bytes of the bodies of all requests in progress."""

    total: int = 0


class RequestMiddleware:
    """Middleware around the application.

    Args:
        with_texts: write the texts of requests to the log.
    """

    def __init__(self, app: ASGIApp, service: Service, keys: Keys, with_texts: bool = False) -> None:
        self.app, self.service, self.keys, self.with_texts = app, service, keys, with_texts
        self.in_progress = BodyBytes()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        context = Context(request_id_of(headers), time.monotonic(), scope["method"])
        routed = "GET" if context.method == "HEAD" else context.method  # uvicorn sends no body for HEAD
        scope = {**scope, "method": routed, CONTEXT: context}
        limited = LimitedReceive(receive, context, self.service.limits, self.in_progress)
        has_body = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                context.status = message["status"]
                own = {"x-request-id": context.request_id, **context.headers}
                if has_body and context.fault is None and "expect" not in headers:
                    await limited.discard_rest()
                is_unread = has_body and not limited.is_complete
                if self.service.is_draining or is_unread or has_ambiguous_length(scope, headers):
                    own["connection"] = "close"
                message["headers"] = [*message["headers"], *((k.encode(), v.encode()) for k, v in own.items())]
            await send(message)

        try:
            self._admit(scope, headers, context)
            await self.app(scope, limited, send_with_headers)
        except Exception as error:
            fault = fault_of(error)
            if fault.code == "failed":
                log.exception("a request failed", extra={"request_id": context.request_id})
            if not context.status:
                await respond(fault, context, send_with_headers)
        finally:
            limited.release()
            self._record(scope, context)

    def _admit(self, scope: Scope, headers: Headers, context: Context) -> None:
        """Authenticate a request before its body is read.

        Raises:
            Fault: it is not allowed, or announces a body that is too large or of ambiguous length.
        """
        if not self.keys.are_set:
            check_loopback(headers)
            context.scopes = SCOPES
        else:
            key = self.keys.find(secret) if (secret := key_of(headers)) is not None else None
            if key is not None:
                context.scopes, context.key_name = key.scopes, key.name
            elif scope["path"] not in PUBLIC:
                problem = "the key is unknown" if secret else "a key is required: Authorization: Bearer KEY"
                raise Fault("unauthenticated", problem)
        if has_ambiguous_length(scope, headers):
            raise Fault("malformed", "a body has either Content-Length or, in HTTP/1.1, Transfer-Encoding")
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self.service.limits.body_bytes:
            raise too_large(self.service.limits.body_bytes)

    def _record(self, scope: Scope, context: Context) -> None:
        """Update the metrics and write the log line."""
        seconds = time.monotonic() - context.start
        route = getattr(scope.get("route"), "path", "unmatched")
        metrics, status = self.service.metrics, context.status or CLIENT_GONE
        metrics.requests.labels(route, metrics.adapter_label(context.tasks), str(status)).inc()
        metrics.seconds["request"].observe(seconds)
        if context.status >= 400 or context.code:
            metrics.rejected.labels(context.code or str(context.status)).inc()
        fields: dict[str, Any] = {
            "request_id": context.request_id,
            "method": context.method,
            "route": route,
            "status": status,
            "duration_s": round(seconds, 6),
            "rows": context.num_rows,
            "adapters": list(context.tasks)[:MAX_LOGGED_ADAPTERS],
            "client": (scope.get("client") or ("",))[0],
        }
        fields |= {name: value for name, value in (("key", context.key_name), ("code", context.code)) if value}
        if self.with_texts:
            fields["texts"] = list(context.texts)
        log.info("request", extra=fields)


class LimitedReceive:
    """An ASGI ``receive`` that bounds the size of a body, the time it takes, and the size of all bodies together."""

    def __init__(self, receive: Receive, context: Context, limits: Limits, in_progress: BodyBytes) -> None:
        self.receive, self.context, self.limits, self.in_progress = receive, context, limits, in_progress
        self.until = time.monotonic() + limits.body_s
        self.num_bytes = 0
        self.is_complete = False

    async def __call__(self) -> Message:
        """The next message.

        Raises:
            Fault: a limit is exceeded.
        """
        if self.is_complete:
            return await self.receive()
        try:
            message = await asyncio.wait_for(self.receive(), max(0.0, self.until - time.monotonic()))
        except asyncio.TimeoutError:
            problem = f"the body did not arrive within {self.limits.body_s:g} s"
            raise self._recorded(Fault("slow_request", problem)) from None
        self._count(message)
        if self.num_bytes > self.limits.body_bytes:
            raise self._recorded(too_large(self.limits.body_bytes))
        if self.in_progress.total > max(self.limits.bodies_bytes, self.num_bytes):
            problem = "too many large requests are in progress; try again later"
            raise self._recorded(Fault("overloaded", problem, retry_after_s=1))
        return message

    async def discard_rest(self) -> None:
        """Read the rest of a small body; a connection that is closed with unread bytes may lose its response."""
        until = time.monotonic() + REST_S
        while not self.is_complete and self.num_bytes <= REST_BYTES:
            try:
                message = await asyncio.wait_for(self.receive(), max(0.0, until - time.monotonic()))
            except asyncio.TimeoutError:
                return
            self._count(message)

    def release(self) -> None:
        """Count the body no longer."""
        self.in_progress.total -= self.num_bytes
        self.num_bytes = 0

    def _count(self, message: Message) -> None:
        size = len(message.get("body", b""))
        self.num_bytes += size
        self.in_progress.total += size
        self.is_complete = not message.get("more_body", False)

    def _recorded(self, fault: Fault) -> Fault:
        self.context.fault = fault
        return fault


def too_large(limit: int) -> Fault:
    """The error for a body above the limit."""
    return Fault("too_large", f"the body is larger than {limit:,} bytes. Send several requests")


def request_id_of(headers: Headers) -> str:
    """The client's ``X-Request-Id`` if it is safe in headers and logs, else a new one."""
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def key_of(headers: Headers) -> str | None:
    """The key in ``Authorization: Bearer KEY`` or ``X-API-Key: KEY``; None if there is none, or more than one."""
    given = headers.getlist("authorization") + headers.getlist("x-api-key")
    if len(given) != 1:
        return None
    if "x-api-key" in headers:
        return given[0]
    scheme, _, key = given[0].partition(" ")
    return key.strip() if scheme.lower() == "bearer" else None


def check_loopback(headers: Headers) -> None:
    """Without keys, refuse requests that a browser sends for a page of another site (DNS rebinding, CSRF).

    Raises:
        Fault: the ``Host`` or ``Origin`` is not this machine.
    """
    if not is_loopback(host_of(headers.get("host", "localhost"))):
        raise Fault("wrong_host", "without keys this server answers as localhost only")
    origin = headers.get("origin")
    if origin is not None and not is_loopback(host_of(origin.partition("://")[2])):
        raise Fault("forbidden", "without keys this server refuses requests from pages of other sites")


def host_of(authority: str) -> str:
    """``localhost`` for ``LOCALHOST:8000``, ``::1`` for ``[::1]:8000``."""
    host = re.sub(r":\d*$", "", authority.lower())
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def is_loopback(host: str) -> bool:
    """Whether a host can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def has_ambiguous_length(scope: Scope, headers: Headers) -> bool:
    """Whether a proxy in front could see another end of the body than this server (request smuggling)."""
    return "transfer-encoding" in headers and ("content-length" in headers or scope["http_version"] == "1.0")


async def respond(fault: Fault, context: Context, send: Send) -> None:
    """Send a fault as the response."""
    context.code = fault.code
    body = json.dumps(fault.to_json(context.request_id)).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **fault.headers()}
    encoded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": fault.status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})
