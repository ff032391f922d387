"""Errors for clients: one table of codes with their HTTP status, one exception."""

from __future__ import annotations

import re
from typing import Any

from polytask.errors import AdapterError, IncompatibleAdapter, NoSuchAdapter, PolytaskError, StoreError

STATUS = {
    "unauthenticated": 401,
    "forbidden": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "slow_request": 408,
    "wrong_backbone": 409,
    "adapter_refused": 409,
    "conflict": 409,
    "too_large": 413,
    "wrong_host": 421,
    "malformed": 422,
    "overloaded": 429,
    "client_gone": 499,
    "failed": 500,
    "draining": 503,
    "unhealthy": 503,
    "deadline": 504,
}
RETRYABLE = {"overloaded", "draining", "unhealthy", "deadline", "slow_request"}
_CODE_OF: dict[type[PolytaskError], str] = {
    IncompatibleAdapter: "wrong_backbone",
    AdapterError: "adapter_refused",
    NoSuchAdapter: "not_found",
    StoreError: "not_found",
    PolytaskError: "malformed",
}
"""The code of an error, by the first class that it is an instance of."""
CODES = {status: code for code, status in reversed(STATUS.items())}
"""The default code of an HTTP status."""


_PATH = re.compile(r"(?:[A-Za-z]:)?(?:[/\\\\][^/\\\\'\s]+)+[/\\\\]([^/\\\\'\s]+)")


class Fault(Exception):
    """An error that is reported to the client.

    Args:
        code: a key of ``STATUS``.
        message: what is wrong and how to fix it.
        param: the part of the request at fault.
        retry_after_s: seconds after which a retry may succeed.
    """

    def __init__(
        self, code: str, message: str, *, param: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.code, self.message, self.param, self.retry_after_s = code, message, param, retry_after_s

    @property
    def status(self) -> int:
        """The HTTP status code."""
        return STATUS[self.code]

    def to_json(self, request_id: str) -> dict[str, Any]:
        """The body of the response."""
        error_type = "invalid_request_error" if self.status < 500 and self.code not in RETRYABLE else "server_error"
        error = {"code": self.code, "type": error_type, "message": self.message, "param": self.param}
        return {"error": {**error, "request_id": request_id, "retryable": self.code in RETRYABLE}}

    def headers(self) -> dict[str, str]:
        """``Retry-After`` in whole seconds, or ``WWW-Authenticate``, where they apply."""
        if self.retry_after_s is None:
            return {"WWW-Authenticate": "Bearer"} if self.code == "unauthenticated" else {}
        return {"Retry-After": str(max(1, round(self.retry_after_s + 0.5)))}


def without_paths(message: str) -> str:
    """The message with each path reduced to its last part: clients must not learn where files are."""
    return _PATH.sub(r"\1", message)


def fault_of(error: BaseException, *, param: str | None = None) -> Fault:
    """The fault to report for an error; unexpected errors are reported without details."""
    if isinstance(error, Fault):
        return error
    for kind, code in _CODE_OF.items():
        if isinstance(error, kind):
            return Fault(code, without_paths(str(error)), param=param)
    return Fault("failed", "the server failed on this request; the log has the details", param=param)
