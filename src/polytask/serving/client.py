"""Clients for a Polytask server. Answers are ``Prediction``\\ s, errors are ``PolytaskError``\\ s.

>>> client = pt.Client("http://127.0.0.1:8000")
>>> client.predict(["WIN cash now"], "spam")
[Prediction(task='spam', label='spam', …)]

Requests are retried when the server is busy (429, 503), after the time in its ``Retry-After``, and when the connection
fails; requests are idempotent. Long lists of texts are sent in several requests. This module does not import torch.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

import httpx2

from polytask.errors import PolytaskError
from polytask.inference.prediction import Prediction

if TYPE_CHECKING:
    from polytask.inference.inputs import Text

RETRIED = (429, 502, 503)
FIRST_WAIT_S, MAX_WAIT_S = 0.25, 30.0
MAX_ROWS, MAX_CHARACTERS = 256, 65_536
"""Texts, and their characters, of one request; well below the limits of a server."""
FIELDS = frozenset(field.name for field in fields(Prediction))
MAX_CONCURRENT = 4
"""Requests that one call of ``AsyncClient.predict`` has in progress."""
Texts = Sequence["Text"]
OnError = Literal["raise", "null"]


class ServerError(PolytaskError):
    """A request failed.

    ``status`` is the HTTP status, 0 if there was no response; ``code`` and ``request_id`` are the server's.
    """

    def __init__(self, message: str, status: int = 0, code: str = "", request_id: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.request_id = status, code, request_id


class _BaseClient:
    """Shared by the two clients: settings, errors, and the wait before a retry."""

    def __init__(self, url: str, key: str | None, timeout_s: float, retries: int) -> None:
        if not url.startswith(("http://", "https://")):
            raise PolytaskError(f"the server's address starts with http:// or https://, unlike {url!r}")
        self.url, self.timeout_s, self.retries = url.rstrip("/"), timeout_s, retries
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._options: dict[str, Any] = {"base_url": self.url, "headers": headers, "timeout": timeout_s}

    def _wait_s(self, attempt: int, response: httpx2.Response | None) -> float | None:
        """Seconds to wait before a retry; None if there should be none."""
        if attempt >= self.retries or (response is not None and response.status_code not in RETRIED):
            return None
        backoff: float = FIRST_WAIT_S * 2.0**attempt * random.uniform(0.5, 1.0)
        retry_after = "" if response is None else str(response.headers.get("retry-after", ""))
        return min(MAX_WAIT_S, max(backoff, float(retry_after) if retry_after.isdigit() else 0.0))

    def _unreachable(self, error: Exception) -> ServerError:
        return ServerError(f"{self.url} cannot be reached: {error or type(error).__name__}")

    def _content(self, response: httpx2.Response) -> Any:
        try:
            content = response.json()
        except ValueError:
            content = {}
        if response.is_success:
            return content
        error = content.get("error", {}) if isinstance(content, dict) else {}
        message = error.get("message", f"HTTP {response.status_code}")
        raise ServerError(
            f"{self.url}: {message}", response.status_code, error.get("code", ""), error.get("request_id", "")
        )


def options_of(on_error: OnError, calibrated: bool, threshold: float | None) -> dict[str, Any]:
    """The fields of a request that say how to answer; those that have their default are left out."""
    given = {"calibrated": calibrated, "threshold": threshold}
    defaults = {"calibrated": True, "threshold": None}
    changed = {name: value for name, value in given.items() if value != defaults[name]}
    return {"on_error": "null" if on_error == "null" else "fail", **changed}


def request_of(texts: Texts, tasks: Sequence[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a request that runs all tasks on each text."""
    given = [list(text) if isinstance(text, tuple) else text for text in texts]
    return {"models": list(tasks), "input": given, **options}


def prediction_of(item: Mapping[str, Any]) -> Prediction:
    """The inverse of ``Prediction.to_json``; other fields of the server are ignored."""
    own: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in item.items() if name in FIELDS
    }
    return Prediction(**own)


def chunks_of(texts: Texts, task: str | Sequence[str]) -> Iterator[tuple[str, list[int]]]:
    """The requests for these texts, each as its task and the rows of its texts.

    Raises:
        PolytaskError: the texts are one string, or the numbers of tasks and texts differ.
    """
    if isinstance(texts, str):
        raise PolytaskError("expected a list of texts, and got one string: give [text], or use predict_all")
    tasks = [task] * len(texts) if isinstance(task, str) else list(task)
    if len(tasks) != len(texts):
        raise PolytaskError(f"{len(texts)} texts and {len(tasks)} tasks: give one task, or one a text")
    order = sorted(range(len(texts)), key=tasks.__getitem__)
    for name, rows in groupby(order, key=tasks.__getitem__):
        chunk: list[int] = []
        num_characters = 0
        for row in rows:
            length = sum(map(len, texts[row])) if isinstance(texts[row], tuple | list) else len(texts[row])
            if chunk and (len(chunk) == MAX_ROWS or num_characters + length > MAX_CHARACTERS):
                yield name, chunk
                chunk, num_characters = [], 0
            chunk.append(row)
            num_characters += length
        yield name, chunk


class Client(_BaseClient):
    """A client for a Polytask server.

    Args:
        url: the server's address.
        key: an API key with the scope ``infer``.
        timeout_s: timeout of each attempt.
        retries: maximum number of retries of a request.
    """

    def __init__(self, url: str, *, key: str | None = None, timeout_s: float = 60.0, retries: int = 4) -> None:
        super().__init__(url, key, timeout_s, retries)
        self._http = httpx2.Client(**self._options)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def predict(
        self,
        texts: Texts,
        task: str | Sequence[str],
        *,
        on_error: OnError = "raise",
        calibrated: bool = True,
        threshold: float | None = None,
    ) -> list[Prediction]:
        """As ``MultiTask.predict``: one prediction for each text, in order.

        Args:
            calibrated: whether probabilities are calibrated and regressions have an interval.
            threshold: the probability from which a label is given, instead of the adapters' own thresholds.

        Raises:
            ServerError: the server cannot be reached, or answers with an error.
        """
        options = options_of(on_error, calibrated, threshold)
        answers: dict[int, Prediction] = {}
        for name, rows in chunks_of(texts, task):
            content = self.post("/v1/classify", request_of([texts[row] for row in rows], [name], options))
            answers |= zip(rows, map(prediction_of, content["data"]), strict=True)
        return [answers[row] for row in range(len(texts))]

    def predict_all(
        self,
        text: Text,
        tasks: Sequence[str],
        *,
        on_error: OnError = "raise",
        calibrated: bool = True,
        threshold: float | None = None,
    ) -> dict[str, Prediction]:
        """Run several tasks on one text; each task's prediction. Arguments as of ``predict``.

        Raises:
            ServerError: as ``predict``.
        """
        options = options_of(on_error, calibrated, threshold)
        content = self.post("/v1/classify", request_of([text], tasks, options))
        return dict(zip(dict.fromkeys(tasks), map(prediction_of, content["data"]), strict=True))

    def models(self) -> list[dict[str, Any]]:
        """All versions that are served, as ``/v1/models`` describes them."""
        found: list[dict[str, Any]] = self._request("GET", "/v1/models", None)["data"]
        return found

    def post(self, path: str, body: Any) -> Any:
        """POST to any route of the server.

        Raises:
            ServerError: as ``predict``.
        """
        return self._request("POST", path, body)

    def _request(self, method: str, path: str, body: Any) -> Any:
        for attempt in range(self.retries + 1):
            response, failure = None, None
            try:
                response = self._http.request(method, path, json=body)
            except httpx2.TransportError as error:
                failure = error
            if (wait_s := self._wait_s(attempt, response)) is None:
                break
            time.sleep(wait_s)
        if response is None:
            assert failure is not None, "each attempt gives a response or a failure"
            raise self._unreachable(failure) from failure
        return self._content(response)


class AsyncClient(_BaseClient):
    """As ``Client``, for asyncio.

    Args:
        url: the server's address.
        key: an API key with the scope ``infer``.
        timeout_s: timeout of each attempt.
        retries: maximum number of retries of a request.
    """

    def __init__(self, url: str, *, key: str | None = None, timeout_s: float = 60.0, retries: int = 4) -> None:
        super().__init__(url, key, timeout_s, retries)
        self._http = httpx2.AsyncClient(**self._options)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def predict(
        self,
        texts: Texts,
        task: str | Sequence[str],
        *,
        on_error: OnError = "raise",
        calibrated: bool = True,
        threshold: float | None = None,
    ) -> list[Prediction]:
        """As ``Client.predict``; the requests of one call are sent concurrently, ``MAX_CONCURRENT`` at a time."""
        options = options_of(on_error, calibrated, threshold)
        chunks, slots = list(chunks_of(texts, task)), asyncio.Semaphore(MAX_CONCURRENT)

        async def send(name: str, rows: Sequence[int]) -> Any:
            async with slots:
                return await self.post("/v1/classify", request_of([texts[row] for row in rows], [name], options))

        contents = await asyncio.gather(*(send(name, rows) for name, rows in chunks))
        answers: dict[int, Prediction] = {}
        for (_, rows), content in zip(chunks, contents, strict=True):
            answers |= zip(rows, map(prediction_of, content["data"]), strict=True)
        return [answers[row] for row in range(len(texts))]

    async def predict_all(
        self,
        text: Text,
        tasks: Sequence[str],
        *,
        on_error: OnError = "raise",
        calibrated: bool = True,
        threshold: float | None = None,
    ) -> dict[str, Prediction]:
        """As ``Client.predict_all``."""
        options = options_of(on_error, calibrated, threshold)
        content = await self.post("/v1/classify", request_of([text], tasks, options))
        return dict(zip(dict.fromkeys(tasks), map(prediction_of, content["data"]), strict=True))

    async def models(self) -> list[dict[str, Any]]:
        """As ``Client.models``."""
        found: list[dict[str, Any]] = (await self._request("GET", "/v1/models", None))["data"]
        return found

    async def post(self, path: str, body: Any) -> Any:
        """As ``Client.post``."""
        return await self._request("POST", path, body)

    async def _request(self, method: str, path: str, body: Any) -> Any:
        for attempt in range(self.retries + 1):
            response, failure = None, None
            try:
                response = await self._http.request(method, path, json=body)
            except httpx2.TransportError as error:
                failure = error
            if (wait_s := self._wait_s(attempt, response)) is None:
                break
            await asyncio.sleep(wait_s)
        if response is None:
            assert failure is not None, "each attempt gives a response or a failure"
            raise self._unreachable(failure) from failure
        return self._content(response)
