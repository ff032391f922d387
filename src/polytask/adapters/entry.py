"""What a store says of its adapters: one entry a version, and what is not as it should be."""

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
        """Of tensors and header."""
        return self.header.digest

    @property
    def method(self) -> Method:
        """What was trained."""
        return self.header.method

    @property
    def labels(self) -> tuple[str, ...]:
        """In the order of the head's outputs."""
        return self.header.head.labels

    @property
    def metric(self) -> str:
        """What ``score`` is."""
        return self.header.metric

    @property
    def score(self) -> float:
        """On the validation rows."""
        return self.header.score

    @property
    def created(self) -> str:
        """When, in UTC."""
        return self.header.created


@dataclass(frozen=True)
class Problem:
    """Something in a store that is not as it should be, and where."""

    path: str
    problem: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"
