"""The gate: keys, scopes and hosts, and bodies that are too large, too slow or malformed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError

from polytask.backbones.backbone import Backbone
from polytask.errors import PolytaskError
from polytask.serving.api.access import ERRORS
from polytask.serving.app import ROUTERS
from polytask.serving.auth import SCOPES, Keys, new_key, read_keys
from polytask.serving.dialect_schemas import InferRequest, TeiRequest, VllmRequest
from polytask.serving.middleware import PUBLIC
from polytask.serving.run import check_host
from polytask.serving.schemas import ClassifyRequest, TrafficRequest
from tests.serving.servers import Served, connected, raw_status, serving

KEYS = {scope: f"key-that-may-{scope}" for scope in SCOPES}
ALL = Keys.from_lines([f"{scope} {key} {scope}" for scope, key in KEYS.items()], "here", allow_plain=True)
ROUTES = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
FILLED = {"name": "mood", "task": "mood", "alias": "prod", "version": "1"}
BODIES: dict[str, Any] = {
    "/v1/classify": {"model": "mood", "input": "a"},
    "/classify": {"model": "mood", "input": "a"},
    "/predict": {"model": "mood", "inputs": "a"},
    "/adapters/{name}/predict": {"inputs": "a"},
}


@pytest.fixture(scope="module")
def guarded(backbone: Backbone, filled: Path) -> Iterator[Served]:
    with serving(backbone, filled, keys=ALL) as served:
        yield served


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def scope_of(route: APIRoute) -> str | None:
    scopes = [getattr(dependency.dependency, "scope", None) for dependency in route.dependencies]
    return next((scope for scope in scopes if scope), None)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{min(route.methods)} {route.path}")
def test_every_route_needs_its_scope_when_keys_are_set(guarded: Served, route: APIRoute) -> None:
    path, method = route.path.format(**FILLED), min(route.methods)
    scope = scope_of(route)
    if scope is None:
        assert path in PUBLIC, "a route without a scope is in the list of what everybody may see"
        assert guarded.http.request(method, path).status_code == 200
        return
    assert path not in PUBLIC
    assert guarded.http.request(method, path).status_code == 401
    assert guarded.http.request(method, path, headers=bearer("wrong")).status_code == 401
    body = BODIES.get(route.path)
    for other in SCOPES - {scope}:
        response = guarded.http.request(method, path, headers=bearer(KEYS[other]), json=body)
        assert response.status_code in (403, 422), response.text
        if method == "GET" or body:
            assert response.status_code == 403
    allowed = guarded.http.request(method, path, headers=bearer(KEYS[scope]), json=body)
    assert allowed.status_code not in (401, 403)


def test_the_openapi_document_has_all_routes_and_errors(guarded: Served) -> None:
    document = guarded.get("/openapi.json", headers=bearer(KEYS["infer"])).json()
    walked = {route.path for route in ROUTES if route.include_in_schema}
    assert set(document["paths"]) == walked
    for path, methods in document["paths"].items():
        for route in methods.values():
            assert {str(status) for status in ERRORS} <= set(route["responses"]), path


@pytest.mark.parametrize(
    "path",
    ["//v1/models", "/v1/models/", "/V1/models", "/v1//models", "/./v1/models", "/ready/../v1/models", "/v1/models%00",
     "/%76%31/models", "/v1%2Fmodels", "/ready/", "/static/../v1/models", "/static/%2e%2e/v1/models", "/;/v1/models"],
)  # fmt: skip
def test_other_spellings_of_a_path_do_not_bypass_the_key(guarded: Served, path: str) -> None:
    assert raw_status(guarded, f"GET {path} HTTP/1.1") == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": KEYS["infer"]},
        {"Authorization": f"Basic {KEYS['infer']}"},
        {"Authorization": f"Bearer {KEYS['infer']}x"},
        {"Authorization": "Bearer"},
        {"Authorization": f"Bearer {KEYS['infer']}, Bearer x"},
        {"Authorization": f"Bearer {KEYS['infer']}", "X-API-Key": "wrong"},
        {"X-Forwarded-For": "127.0.0.1"},
        {"X-Original-URL": "/ready"},
        {"Cookie": f"key={KEYS['infer']}"},
    ],
)
def test_malformed_and_duplicate_credentials_are_refused(guarded: Served, headers: dict[str, str]) -> None:
    response = guarded.get("/v1/models", headers=headers)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"


def test_a_key_is_accepted_in_either_header_but_not_in_the_url(guarded: Served) -> None:
    assert guarded.get("/v1/models", headers={"X-API-Key": KEYS["infer"]}).status_code == 200
    assert guarded.get("/v1/models", headers={"authorization": f"bearer {KEYS['infer']}"}).status_code == 200
    assert guarded.http.request("GET", f"/v1/models?key={KEYS['infer']}").status_code == 401


def test_the_body_of_a_request_without_a_key_is_not_read(guarded: Served) -> None:
    assert raw_status(guarded, "POST /v1/classify HTTP/1.1", "Content-Length: 1000000") == 401


def test_keys_are_read_from_a_file_and_an_environment_variable(tmp_path: Path) -> None:
    key, line = new_key("infer,manage")
    file = tmp_path / "keys"
    file.write_text(f"# keys\n\n{line} deploy\n")
    keys = read_keys(str(file), "metrics a-plain-key-of-mine;")
    assert keys.find(key).scopes == {"infer", "manage"}  # type: ignore[union-attr]
    assert keys.find("a-plain-key-of-mine").scopes == {"metrics"}  # type: ignore[union-attr]
    assert keys.find(key + " ") is None
    assert hashlib.sha256(key.encode()).hexdigest() in line
    assert key not in line
    with pytest.raises(PolytaskError, match=r"no scope called 'inver'\. Did you mean 'infer'"):
        new_key("metrics,inver")


@pytest.mark.parametrize("line", ["infer", "root abc", "infer short", f"infer,, {'0' * 64}", f"infer {'0' * 64} a b"])
def test_invalid_key_lines_are_refused_without_repeating_them(line: str, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(line + "\n")
    with pytest.raises(PolytaskError, match="line 1") as caught:
        read_keys(str(file), None)
    assert "abc" not in str(caught.value)
    assert "short" not in str(caught.value)


def test_without_keys_only_loopback_hosts_and_origins_are_allowed(served: Served) -> None:
    for host in ("0.0.0.0", "::", "192.168.0.1", "example.org"):
        with pytest.raises(PolytaskError, match="without keys"):
            check_host(host, Keys())
        check_host(host, ALL)
    for host in ("127.0.0.1", "::1", "localhost", "127.8.8.8"):
        check_host(host, Keys())
    for name in ("evil.example", "localhost.evil.example", "127.0.0.1.nip.io"):
        assert served.get("/v1/models", headers={"Host": name}).status_code == 421
    for name in ("LOCALHOST:1", "127.0.0.2", "[::1]:1"):
        assert served.get("/v1/models", headers={"Host": name}).status_code == 200
    assert served.get("/v1/models", headers={"Origin": "https://evil.example"}).status_code == 403
    assert served.get("/v1/models", headers={"Origin": served.url}).status_code == 200


# Heads and bodies


def posted(served: Served, body: bytes, *headers: str) -> int:
    own = ("Content-Type: application/json", f"Content-Length: {len(body)}", *headers)
    return raw_status(served, "POST /v1/classify HTTP/1.1", *own, body=body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"mood"',
        b"\xff\xfe{}",
        b'{"model": "mood", "input": "\xff\xfe"}',
        b'{"model": "mood", "input": "\\ud800"}',
        b'{"model": "mood", "input": NaN}',
        b'{"model": "mood\\u0000", "input": "a"}',
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"model": "mood", "input": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"model": "mood", "input": 1' + b"0" * 100_000 + b"}",
    ],
    ids=lambda body: repr(body[:24]),
)
def test_a_malformed_body_is_422(served: Served, body: bytes) -> None:
    assert posted(served, body) == 422


def test_texts_may_have_any_character(served: Served) -> None:
    for text in ("\u0000", "a\u202eb", "\U0001f600 good", "é", "\r\n good", "\u2028"):
        assert posted(served, json.dumps({"model": "mood", "input": text}).encode()) in (200, 422), repr(text)


def test_bodies_over_the_limit_are_413_with_and_without_content_length(backbone: Backbone, filled: Path) -> None:
    with serving(backbone, filled, body_bytes=1000) as served:
        small = {"model": "mood", "input": "a"}
        assert served.post("/v1/classify", small).status_code == 200
        assert raw_status(served, "POST /v1/classify HTTP/1.1", "Content-Length: 100000000000") == 413
        large = b"%x\r\n" % 2000 + b" " * 2000 + b"\r\n0\r\n\r\n"
        chunked = ("Content-Type: application/json", "Transfer-Encoding: chunked")
        assert raw_status(served, "POST /v1/classify HTTP/1.1", *chunked, body=large) == 413
        assert served.get("/ready").status_code == 200


@pytest.mark.parametrize(
    ("version", "headers"),
    [("1.1", ("Content-Length: 5", "Transfer-Encoding: chunked")), ("1.0", ("Transfer-Encoding: chunked",))],
)
def test_a_body_of_ambiguous_length_is_refused_and_the_connection_closed(
    served: Served, version: str, headers: tuple[str, ...]
) -> None:
    own = "\r\n".join(
        [f"POST /v1/classify HTTP/{version}", "Host: localhost", "Connection: keep-alive", *headers, "", ""]
    )
    with connected(served) as connection:
        connection.sendall(own.encode() + b"0\r\n\r\nGET /v1/stats HTTP/1.1\r\nHost: localhost\r\n\r\n")
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    assert received.startswith(b"HTTP/1.1 422")
    assert received.count(b"HTTP/1.1 ") == 1, "what follows is not read as a request"


def test_head_is_answered_as_get_without_a_body(guarded: Served) -> None:
    for path in ("/", "/ready", "/v1/models"):
        own = {"headers": bearer(KEYS["infer"])}
        head, whole = guarded.http.head(path, **own), guarded.http.get(path, **own)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == str(len(whole.content))
    assert guarded.http.head("/v1/models").status_code == 401
    assert guarded.http.head("/v1/classify", headers=bearer(KEYS["infer"])).status_code == 405


NUMBERS, EMPTY = [1] * 100_000, [[]] * 100_000
TENSOR = {"name": "text", "shape": [1], "datatype": "BYTES"}


@pytest.mark.parametrize(
    ("model", "body"),
    [
        (ClassifyRequest, {"model": "mood", "input": NUMBERS}),
        (ClassifyRequest, {"model": "mood", "input": EMPTY}),
        (ClassifyRequest, {"model": "mood", "input": [NUMBERS]}),
        (ClassifyRequest, {"model": "mood", "input": "a", **{f"k{n}": 1 for n in range(100_000)}}),
        (ClassifyRequest, {"models": NUMBERS, "input": "a"}),
        (VllmRequest, {"model": "mood", "input": NUMBERS}),
        (TeiRequest, {"inputs": NUMBERS}),
        (TeiRequest, {"inputs": [[1]] * 100_000}),
        (InferRequest, {"inputs": [{**TENSOR, "data": NUMBERS}]}),
        (InferRequest, {"inputs": [{**TENSOR, "data": [NUMBERS]}]}),
        (InferRequest, {"inputs": [{**TENSOR, "data": EMPTY, "shape": NUMBERS}]}),
        (InferRequest, {"inputs": NUMBERS}),
        (TrafficRequest, {"shares": {f"k{n}": 1 for n in range(100_000)}}),
        (TrafficRequest, {"shares": {str(n): 2 for n in range(1, 100_000)}}),
    ],
)
def test_validation_stops_after_a_few_errors(model: type[BaseModel], body: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(body)
    assert caught.value.error_count() <= 256, "pydantic makes an object for each error"


def test_other_content_types_are_422(served: Served) -> None:
    with httpx2.Client(base_url=served.url) as http:
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "image/png"):
            response = http.post(
                "/v1/classify", content=b'{"model": "mood", "input": "a"}', headers={"content-type": kind}
            )
            assert response.status_code == 422
