"""Asking a server: its answers are the library's ``Prediction``\\ s, and what it refuses is a ``PolytaskError``.

>>> client = pt.Client("http://127.0.0.1:8000")
>>> client.predict(["WIN cash now"], "spam")
[Prediction(task='spam', label='spam', …)]

A request that the server has no time for (429, 503) is sent again after the time that it names; so is one whose
connection failed. Asking twice does no harm.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import groupby
from typing import Any, Literal

import httpx2

from polytask.errors import PolytaskError
from polytask.inference.inputs import Text
from polytask.inference.prediction import Prediction

AGAIN = (429, 502, 503)
FIRST_WAIT_S, LONGEST_WAIT_S = 0.25, 30.0
FIELDS = frozenset(field.name for field in fields(Prediction))
Texts = Sequence[Text]
OnError = Literal["raise", "null"]


class ServerError(PolytaskError):
    """What a server did not answer.

    ``status`` is of HTTP, 0 where there was no response; ``code`` and ``request_id`` are the server's.
    """

    def __init__(self, message: str, status: int = 0, code: str = "", request_id: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.request_id = status, code, request_id


class _Asking:
    """What the two clients share: requests, responses, and how long to wait before the next try."""

    def __init__(self, url: str, key: str | None, timeout_s: float, retries: int) -> None:
        self.url, self.timeout_s, self.retries = url.rstrip("/"), timeout_s, retries
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._options: dict[str, Any] = {"base_url": self.url, "headers": headers, "timeout": timeout_s}

    def _wait_s(self, attempt: int, response: httpx2.Response | None) -> float | None:
        """How long to wait before trying again; None where that is of no use."""
        if attempt >= self.retries or (response is not None and response.status_code not in AGAIN):
            return None
        usual: float = FIRST_WAIT_S * 2.0**attempt * random.uniform(0.5, 1.0)
        asked = "" if response is None else str(response.headers.get("retry-after", ""))
        return min(LONGEST_WAIT_S, max(usual, float(asked) if asked.isdigit() else 0.0))

    def _failed(self, error: Exception) -> ServerError:
        return ServerError(f"{self.url} cannot be reached: {error or type(error).__name__}")

    def _content(self, response: httpx2.Response) -> Any:
        try:
            content = response.json()
        except ValueError:
            content = {}
        if response.is_success:
            return content
        said = content.get("error", {}) if isinstance(content, dict) else {}
        message = said.get("message", f"HTTP {response.status_code}")
        raise ServerError(
            f"{self.url}: {message}", response.status_code, said.get("code", ""), said.get("request_id", "")
        )


def request_of(texts: Texts, tasks: Sequence[str], on_error: OnError) -> dict[str, Any]:
    """The body of a request for these tasks, each text for all of them."""
    given = [list(text) if isinstance(text, tuple) else text for text in texts]
    return {"models": list(tasks), "input": given, "on_error": "null" if on_error == "null" else "fail"}


def prediction_of(item: Mapping[str, Any]) -> Prediction:
    """The inverse of ``Prediction.to_json``; what else the server says is passed over."""
    own: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in item.items() if name in FIELDS
    }
    return Prediction(**own)


def runs_of(texts: Texts, task: str | Sequence[str]) -> Iterator[tuple[str, list[int]]]:
    """Each task with the rows of its texts.

    Raises:
        PolytaskError: not as many tasks as texts.
    """
    tasks = [task] * len(texts) if isinstance(task, str) else list(task)
    if isinstance(texts, str) or len(tasks) != len(texts):
        raise PolytaskError(f"{len(texts)} texts and {len(tasks)} tasks: give one task, or one a text")
    order = sorted(range(len(texts)), key=tasks.__getitem__)
    for name, rows in groupby(order, key=tasks.__getitem__):
        yield name, list(rows)


class Client(_Asking):
    """A server's answers.

    Args:
        url: as the server printed it.
        key: with the scope ``infer``.
        timeout_s: of each try.
        retries: how often a request is sent again.
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

    def predict(self, texts: Texts, task: str | Sequence[str], *, on_error: OnError = "raise") -> list[Prediction]:
        """As ``MultiTask.predict``: one prediction a text, in their order.

        Raises:
            ServerError: the server cannot be reached, or refuses.
        """
        answers: dict[int, Prediction] = {}
        for name, rows in runs_of(texts, task):
            content = self.post("/v1/classify", request_of([texts[row] for row in rows], [name], on_error))
            answers |= zip(rows, map(prediction_of, content["data"]), strict=True)
        return [answers[row] for row in range(len(texts))]

    def predict_all(self, text: Text, tasks: Sequence[str], *, on_error: OnError = "raise") -> dict[str, Prediction]:
        """One text for several tasks, which share what they can; each task's prediction.

        Raises:
            ServerError: as ``predict``.
        """
        content = self.post("/v1/classify", request_of([text], tasks, on_error))
        return dict(zip(dict.fromkeys(tasks), map(prediction_of, content["data"]), strict=True))

    def models(self) -> list[dict[str, Any]]:
        """The versions that are served."""
        found: list[dict[str, Any]] = self._sent("GET", "/v1/models", None)["data"]
        return found

    def post(self, path: str, body: Any) -> Any:
        """Any other route of the server.

        Raises:
            ServerError: as ``predict``.
        """
        return self._sent("POST", path, body)

    def _sent(self, method: str, path: str, body: Any) -> Any:
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
            assert failure is not None, "there is a response or a failure"
            raise self._failed(failure) from failure
        return self._content(response)


class AsyncClient(_Asking):
    """The same for asyncio.

    Args:
        url: as the server printed it.
        key: with the scope ``infer``.
        timeout_s: of each try.
        retries: how often a request is sent again.
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
        self, texts: Texts, task: str | Sequence[str], *, on_error: OnError = "raise"
    ) -> list[Prediction]:
        """As ``Client.predict``; several tasks are asked at once."""
        runs = list(runs_of(texts, task))
        asks = [
            self.post("/v1/classify", request_of([texts[row] for row in rows], [name], on_error)) for name, rows in runs
        ]
        answers: dict[int, Prediction] = {}
        for (_, rows), content in zip(runs, await asyncio.gather(*asks), strict=True):
            answers |= zip(rows, map(prediction_of, content["data"]), strict=True)
        return [answers[row] for row in range(len(texts))]

    async def predict_all(
        self, text: Text, tasks: Sequence[str], *, on_error: OnError = "raise"
    ) -> dict[str, Prediction]:
        """As ``Client.predict_all``."""
        content = await self.post("/v1/classify", request_of([text], tasks, on_error))
        return dict(zip(dict.fromkeys(tasks), map(prediction_of, content["data"]), strict=True))

    async def models(self) -> list[dict[str, Any]]:
        """As ``Client.models``."""
        found: list[dict[str, Any]] = (await self._sent("GET", "/v1/models", None))["data"]
        return found

    async def post(self, path: str, body: Any) -> Any:
        """As ``Client.post``."""
        return await self._sent("POST", path, body)

    async def _sent(self, method: str, path: str, body: Any) -> Any:
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
            assert failure is not None, "there is a response or a failure"
            raise self._failed(failure) from failure
        return self._content(response)
