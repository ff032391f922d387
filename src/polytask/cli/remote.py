"""Makes a server look like a store, for ``polytask predict --url``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from polytask.data.task import Kind
from polytask.errors import PolytaskError, nearest

if TYPE_CHECKING:
    from polytask.inference.prediction import Prediction

VARIABLE = "POLYTASK_KEY"


@dataclass(frozen=True)
class ServedHead:
    """Like ``Head`` of an adapter's header, with what a server reports."""

    kind: Kind


@dataclass(frozen=True)
class ServedHeader:
    """Like an adapter's ``Header``, with what a server reports; it does not report the columns used in training."""

    head: ServedHead
    takes: str | None
    thresholds: Mapping[str, Any] | None = None
    none: Mapping[str, Any] | None = None
    result: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ServedEntry:
    """Like ``Entry`` of a store, for a version on a server."""

    name: str
    labels: tuple[str, ...]
    header: ServedHeader

    def __str__(self) -> str:
        return self.name


class Server:
    """The adapters of a server, with the methods of a ``Store`` that ``polytask predict`` needs.

    The API key is read from the environment variable ``POLYTASK_KEY``.
    """

    def __init__(self, url: str) -> None:
        from polytask.serving.client import Client

        self.client = Client(url, key=os.environ.get(VARIABLE) or None)
        self._models: list[dict[str, Any]] | None = None

    @property
    def models(self) -> list[dict[str, Any]]:
        """All versions, as the server reports them; requested once."""
        if self._models is None:
            self._models = self._ask_for_models()
        return self._models

    def _ask_for_models(self) -> list[dict[str, Any]]:
        from polytask.serving.client import ServerError

        try:
            return self.client.models()
        except ServerError as error:
            if error.status == 401:
                raise PolytaskError(f"{error}. The key is read from the environment variable {VARIABLE}") from error
            raise

    def tasks(self) -> list[str]:
        """The tasks that are served."""
        return sorted({model["task"] for model in self.models})

    def entry(self, reference: str) -> Any:
        """The version that a reference names; the latest of the task if only the server can resolve the reference.

        Raises:
            PolytaskError: the server has no such task.
        """
        task, _, selector = reference.partition("@")
        own = [model for model in self.models if model["task"] == task]
        if not own:
            near = nearest(task, self.tasks())
            suggestion = "" if near is None else f". Did you mean {near!r}?"
            raise PolytaskError(f"{self.client.url}: no adapter called {task!r}{suggestion}")
        latest = next(model for model in own if model["is_latest"])
        found = next((m for m in own if m["id"] == reference or selector in m["aliases"]), latest)
        head = ServedHead(found["kind"])
        header = ServedHeader(head, found["takes"], thresholds=found.get("thresholds"), none=found.get("none"))
        return ServedEntry(found["id"], tuple(found["labels"]), header)

    def predict(
        self, texts: Sequence[Any], reference: str, *, calibrated: bool = True, threshold: float | None = None
    ) -> list[Prediction]:
        """As ``MultiTask.predict`` with ``on_error="null"``.

        Raises:
            PolytaskError: the server cannot be reached, or answers with an error.
        """
        return self.client.predict(texts, reference, on_error="null", calibrated=calibrated, threshold=threshold)
