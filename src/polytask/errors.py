"""What can go wrong, said so that a user knows what to do next.

    PolytaskError                     everything a user can cause, a ValueError
    ├── UnknownName                   a method, task, metric, … that does not exist, with the nearest that does
    ├── DataError                     a file of texts that cannot be used, with file, line and column
    ├── RecipeError                   settings that contradict each other or are out of range
    ├── RouteError                    rows sent to adapters in a way that cannot be served
    ├── BackboneError                 a pretrained model that cannot be used
    │   └── UnsupportedArchitecture
    ├── AdapterError                  an adapter file that cannot be trusted or read
    │   └── IncompatibleAdapter       a sound adapter that belongs to something else
    │       ├── WrongBackbone
    │       ├── WrongDepth
    │       ├── WrongWidth
    │       └── WrongTokenizer
    ├── StoreError                    a store that cannot do what was asked
    │   └── NoSuchAdapter
    ├── CheckpointError               a run that cannot be resumed from what is there
    └── WriteError                    a file that cannot be written, such as on a full disk; an OSError too

Each message says what was wrong, what was given and what would be right. Our own mistakes are
``assert``\\ s, never one of these.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from os import PathLike


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like ``name``, in capital or small letters; None where none is like it."""
    folded: dict[str, str] = {}
    for own in known:
        folded.setdefault(own.casefold(), own)
    near = difflib.get_close_matches(str(name).strip().casefold(), folded, n=1)
    return folded[near[0]] if near else None


class PolytaskError(ValueError):
    """A mistake its user can mend; the message says how."""


def printable(text: str) -> str:
    """The text with characters that drive a terminal, or cannot be seen, written as escapes; lines stay lines."""
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


class UnknownName(PolytaskError):
    """A name that is not one of those known.

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
    """Data that cannot be used: ``file:line, column 'c': what is wrong. What would be right.``"""

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
    """Rows sent to adapters in a way that cannot be served."""


class BackboneError(PolytaskError):
    """A pretrained model that cannot be used as a backbone."""


class UnsupportedArchitecture(BackboneError):
    """A model type that has no row in ``polytask.architectures.ARCHITECTURES``."""

    def __init__(self, given: str, supported: Iterable[str], near: Sequence[str] = ()) -> None:
        nearest_first = f" The nearest are: {', '.join(near)}." if near else ""
        super().__init__(
            f"the architecture {given!r} is not supported. Supported are: {', '.join(supported)}.{nearest_first} "
            "To add one, write its row: see 'How to add an architecture' in CONTRIBUTING.md"
        )


class AdapterError(PolytaskError):
    """An adapter file that is damaged, hostile or not one of ours."""


class IncompatibleAdapter(AdapterError):
    """A sound adapter that belongs to another backbone."""


class WrongBackbone(IncompatibleAdapter):
    """Trained on other weights than these."""


class WrongDepth(IncompatibleAdapter):
    """Trained on a backbone with another number of layers."""


class WrongWidth(IncompatibleAdapter):
    """Trained on a backbone with another hidden size."""


class WrongTokenizer(IncompatibleAdapter):
    """Trained on texts cut into other tokens."""


class StoreError(PolytaskError):
    """A store that cannot do what was asked."""


class NoSuchAdapter(StoreError, UnknownName):
    """The store holds no adapter of this name or version."""


class CheckpointError(PolytaskError):
    """A run that cannot be resumed from the checkpoint that is there."""


class WriteError(PolytaskError, OSError):
    """A file that cannot be written. What was there before is still there."""

    def __init__(self, file: str | PathLike[str], reason: object) -> None:
        super().__init__(f"{file} cannot be written: {reason}. Nothing was changed")
        self.strerror = str(reason)


class PolytaskWarning(UserWarning):
    """Something that is probably not meant, and stops nothing."""
