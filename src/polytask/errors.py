"""The errors that Polytask raises. Each message says what was wrong, what was given and what would be right.

    PolytaskError                     base class of all errors that a user can cause; a ValueError
    ├── UnknownName                   no such method, task, metric, …; names the closest match
    ├── DataError                     data that cannot be used, with file, line and column
    ├── RecipeError                   settings that are out of range or contradict each other
    ├── RouteError                    rows routed to adapters in a way that is not possible
    ├── BackboneError                 a pretrained model that cannot be used as a backbone
    │   └── UnsupportedArchitecture
    ├── AdapterError                  an adapter file that is damaged, unsafe or not an adapter
    │   └── IncompatibleAdapter       a valid adapter that belongs to another backbone
    │       ├── WrongBackbone
    │       ├── WrongDepth
    │       ├── WrongWidth
    │       └── WrongTokenizer
    ├── StoreError                    an operation that a store refuses
    │   └── NoSuchAdapter
    ├── CheckpointError               a run that cannot be resumed from its checkpoint
    └── WriteError                    a file that cannot be written, on a full disk for example; also an OSError

Bugs of Polytask itself are ``assert``\\ s, never one of these.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from os import PathLike


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name closest to ``name``, ignoring case; None if none is similar."""
    folded: dict[str, str] = {}
    for own in known:
        folded.setdefault(own.casefold(), own)
    near = difflib.get_close_matches(str(name).strip().casefold(), folded, n=1)
    return folded[near[0]] if near else None


class PolytaskError(ValueError):
    """An error that the user can fix; the message says how."""


def printable(text: str) -> str:
    """``text`` with control and invisible characters escaped, except newline and tab."""
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


class UnknownName(PolytaskError):
    """An unknown name, with the closest known one.

    >>> raise UnknownName("method", "hulsby", ["houlsby", "lora"])
    Traceback (most recent call last):
    polytask.errors.UnknownName: no method called 'hulsby'. Did you mean 'houlsby'? There are: houlsby, lora
    """

    def __init__(self, what: str, name: str, known: Iterable[str], where: str = "") -> None:
        known = list(known)
        near = nearest(name, known)
        guess = "" if near is None else f" Did you mean {near!r}?"
        there = f" There are: {', '.join(known)}" if known else f" There is no {what}{where} yet"
        super().__init__(f"no {what} called {name!r}.{guess}{there}")


class DataError(PolytaskError):
    """Data that cannot be used. The message is ``file:line, column 'c': problem. Fix``."""

    def __init__(
        self,
        problem: str,
        *,
        file: str | PathLike[str] | None = None,
        line: int | None = None,
        column: str | None = None,
        fix: str | None = None,
    ) -> None:
        self.file, self.line, self.column = file, line, column
        where = "" if file is None else str(file)
        if line is not None:
            where += f":{line}"
        if column is not None:
            where += f", column {column!r}" if where else f"column {column!r}"
        message = f"{where}: {problem}" if where else problem
        super().__init__(f"{message}. {fix}" if fix else message)


class RecipeError(PolytaskError):
    """Settings of a recipe or method that are out of range or contradict each other."""


class RouteError(PolytaskError):
    """Rows routed to adapters in a way that is not possible."""


class BackboneError(PolytaskError):
    """A pretrained model that cannot be used as a backbone."""


class UnsupportedArchitecture(BackboneError):
    """A model type that is not in ``polytask.architectures.ARCHITECTURES``."""

    def __init__(self, given: str, supported: Iterable[str], near: Sequence[str] = ()) -> None:
        nearest_first = f" The nearest are: {', '.join(near)}." if near else ""
        super().__init__(
            f"the architecture {given!r} is not supported. Supported are: {', '.join(supported)}.{nearest_first} "
            "To add one, write its row: see 'How to add an architecture' in CONTRIBUTING.md"
        )


class AdapterError(PolytaskError):
    """An adapter file that is damaged, unsafe or not a Polytask adapter."""


class IncompatibleAdapter(AdapterError):
    """A valid adapter that belongs to another backbone."""


class WrongBackbone(IncompatibleAdapter):
    """The adapter was trained on a backbone with other weights."""


class WrongDepth(IncompatibleAdapter):
    """The adapter was trained on a backbone with another number of layers."""


class WrongWidth(IncompatibleAdapter):
    """The adapter was trained on a backbone with another hidden size."""


class WrongTokenizer(IncompatibleAdapter):
    """The adapter was trained with another tokenizer."""


class StoreError(PolytaskError):
    """An operation that a store refuses."""


class NoSuchAdapter(StoreError, UnknownName):
    """The store holds no adapter of this name or version."""


class CheckpointError(PolytaskError):
    """A run that cannot be resumed from its checkpoint."""


class WriteError(PolytaskError, OSError):
    """A file that cannot be written. An existing file is unchanged."""

    def __init__(self, file: str | PathLike[str], reason: object) -> None:
        super().__init__(f"{file} cannot be written: {reason}. Nothing was changed")
        self.strerror = str(reason)


class PolytaskWarning(UserWarning):
    """Something that is probably a mistake; the run continues."""
