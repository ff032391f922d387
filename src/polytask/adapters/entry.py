"""``Entry``: what a store knows about one version of an adapter; ``Problem``: what ``verify`` reports."""

from __future__ import annotations

from dataclasses import dataclass, field

from polytask.adapters.header import Header
from polytask.methods import Method


@dataclass(frozen=True)
class Entry:
    """One version of one task's adapter, as its header describes it.

    An adapter on the hub has no version (0); its ``origin`` is ``hub:OWNER/NAME@COMMIT``.
    """

    task: str
    version: int
    path: str
    size_bytes: int
    aliases: tuple[str, ...]
    header: Header = field(repr=False)
    origin: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return self.origin or f"{self.task}@{self.version}"

    @property
    def digest(self) -> str:
        """The SHA-256 of tensors and header."""
        return self.header.digest

    @property
    def method(self) -> Method:
        """The method that was trained."""
        return self.header.method

    @property
    def labels(self) -> tuple[str, ...]:
        """The label names, in the order of the head's outputs."""
        return self.header.head.labels

    @property
    def metric(self) -> str:
        """The metric of ``score``."""
        return self.header.metric

    @property
    def score(self) -> float:
        """The score on the validation rows."""
        return self.header.score

    @property
    def created(self) -> str:
        """The time of creation, in UTC."""
        return self.header.created


@dataclass(frozen=True)
class Problem:
    """A problem in a store, and where it is."""

    path: str
    problem: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"
