"""Keys, their scopes, and who may ask without one.

A key is known by its SHA-256 only. Keys come from the environment variable ``POLYTASK_KEYS`` or a file, one a line:

    infer,metrics  5f4dcc3b5aa765d61d8327deb882cf992b95990a9151374abd71ffa1dbcd3d31  dashboard
    manage         …                                                                 deploy

In the variable a line may be ``SCOPES KEY`` with the key itself, lines parted by ``;``. Without any keys everything is
allowed, and the server listens on this machine alone.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from polytask.errors import PolytaskError

Scope = Literal["infer", "manage", "metrics"]
SCOPES: frozenset[str] = frozenset(get_args(Scope))
VARIABLE = "POLYTASK_KEYS"
MOST_FILE_BYTES = 1 << 20
SHORTEST_KEY = 16

_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Key:
    """The SHA-256 of a key, what it allows, and a name for the log."""

    sha256: bytes
    scopes: frozenset[str]
    name: str


@dataclass(frozen=True)
class Keys:
    """All keys of a server; none where everything is allowed."""

    keys: tuple[Key, ...] = ()

    @property
    def are_set(self) -> bool:
        """Whether a key is needed."""
        return bool(self.keys)

    def find(self, given: str) -> Key | None:
        """The key that was given; the time this takes says nothing about it."""
        digest = hashlib.sha256(given.encode("utf-8", "surrogateescape")).digest()
        found = None
        for key in self.keys:
            if hmac.compare_digest(key.sha256, digest):
                found = key
        return found

    @classmethod
    def of_lines(cls, lines: Iterable[str], where: str, *, plain: bool) -> Keys:
        """From lines as above.

        Args:
            plain: whether a line may have the key itself.

        Raises:
            PolytaskError: a line is not understood; the message does not repeat it.
        """
        keys = []
        for number, line in enumerate(lines, 1):
            if line.strip() and not line.lstrip().startswith("#"):
                keys.append(_key(line.split(), f"{where}, line {number}", plain=plain))
        return cls(tuple(keys))


def _key(words: Sequence[str], where: str, *, plain: bool) -> Key:
    scopes = frozenset(words[0].split(","))
    if len(words) not in (2, 3) or not scopes <= SCOPES:
        raise PolytaskError(f"{where}: expected SCOPES SHA256 [NAME], with scopes of {', '.join(sorted(SCOPES))}")
    name = words[2] if len(words) == 3 else f"key-{words[0]}"
    if _HASH.fullmatch(words[1]):
        return Key(bytes.fromhex(words[1]), scopes, name)
    if not plain:
        raise PolytaskError(f"{where}: the key is not a SHA-256 in hexadecimal. Make one with polytask serve --new-key")
    if len(words[1]) < SHORTEST_KEY:
        raise PolytaskError(f"{where}: a key has at least {SHORTEST_KEY} characters")
    return Key(hashlib.sha256(words[1].encode()).digest(), scopes, name)


def read_keys(file: str | None, variable: str | None) -> Keys:
    """The keys of a file and of the environment variable's value.

    Raises:
        PolytaskError: one of them is not understood or cannot be read.
    """
    keys = Keys.of_lines((variable or "").split(";"), VARIABLE, plain=True).keys
    if file is not None:
        try:
            with Path(file).open(encoding="utf-8") as stream:
                text = stream.read(MOST_FILE_BYTES)
        except (OSError, UnicodeDecodeError) as error:
            raise PolytaskError(f"{file}: the keys cannot be read: {error}") from error
        keys += Keys.of_lines(text.splitlines(), file, plain=False).keys
        if not keys:
            raise PolytaskError(f"{file}: there is no key in it. Make one with polytask serve --new-key")
    return Keys(keys)


def new_key(scopes: str) -> tuple[str, str]:
    """A random key, and its line for a file of keys.

    Raises:
        PolytaskError: not scopes.
    """
    key = f"pt-{secrets.token_urlsafe(32)}"
    line = f"{scopes} {hashlib.sha256(key.encode()).hexdigest()}"
    _key(line.split(), "--new-key", plain=False)
    return key, line
