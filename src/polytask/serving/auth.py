"""API keys and their scopes.

Only the SHA-256 of a key is kept. Keys come from a file or the environment variable ``POLYTASK_KEYS``, one per line:

    infer,metrics  5f4dcc3b5aa765d61d8327deb882cf992b95990a9151374abd71ffa1dbcd3d31  dashboard
    manage         …                                                                 deploy

In the variable, lines are separated by ``;`` and may hold the key itself in place of its hash. Without any keys
everything is allowed, and the server listens on loopback only.
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

from polytask.errors import PolytaskError, UnknownName

Scope = Literal["infer", "manage", "metrics"]
SCOPES: frozenset[str] = frozenset(get_args(Scope))
VARIABLE = "POLYTASK_KEYS"
MAX_FILE_BYTES = 1 << 20
MIN_KEY_CHARS = 16

_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Key:
    """The SHA-256 of a key, its scopes, and its name in the log."""

    sha256: bytes
    scopes: frozenset[str]
    name: str


@dataclass(frozen=True)
class Keys:
    """All keys of a server; empty if everything is allowed."""

    keys: tuple[Key, ...] = ()

    @property
    def are_set(self) -> bool:
        """Whether requests need a key."""
        return bool(self.keys)

    def find(self, secret: str) -> Key | None:
        """The key with this secret, in constant time; None if it is unknown."""
        digest = hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
        found = None
        for key in self.keys:
            if hmac.compare_digest(key.sha256, digest):
                found = key
        return found

    @classmethod
    def from_lines(cls, lines: Iterable[str], where: str, *, allow_plain: bool) -> Keys:
        """Parse lines as in the module's docstring.

        Args:
            allow_plain: whether a line may hold the key itself in place of its hash.

        Raises:
            PolytaskError: a line is malformed; the message does not repeat it.
        """
        keys = []
        for number, line in enumerate(lines, 1):
            if line.strip() and not line.lstrip().startswith("#"):
                keys.append(_key(line.split(), f"{where}, line {number}", allow_plain=allow_plain))
        return cls(tuple(keys))


def _key(words: Sequence[str], where: str, *, allow_plain: bool) -> Key:
    scopes = frozenset(words[0].split(","))
    if len(words) not in (2, 3) or not scopes <= SCOPES:
        raise PolytaskError(f"{where}: expected SCOPES SHA256 [NAME]; scopes are {', '.join(sorted(SCOPES))}")
    name = words[2] if len(words) == 3 else f"key-{words[0]}"
    if _HASH.fullmatch(words[1]):
        return Key(bytes.fromhex(words[1]), scopes, name)
    if not allow_plain:
        raise PolytaskError(
            f"{where}: the key is not a SHA-256 in hexadecimal. Create one with: polytask serve --new-key infer"
        )
    if len(words[1]) < MIN_KEY_CHARS or not words[1].isascii():
        raise PolytaskError(f"{where}: a key needs at least {MIN_KEY_CHARS} ASCII characters")
    return Key(hashlib.sha256(words[1].encode()).digest(), scopes, name)


def read_keys(file: str | None, variable: str | None) -> Keys:
    """The keys in a file and in the value of the environment variable.

    Raises:
        PolytaskError: a key is malformed, or the file cannot be read or has no keys.
    """
    keys = Keys.from_lines((variable or "").split(";"), VARIABLE, allow_plain=True).keys
    if file is not None:
        try:
            with Path(file).open(encoding="utf-8") as stream:
                text = stream.read(MAX_FILE_BYTES)
        except (OSError, UnicodeDecodeError) as error:
            raise PolytaskError(f"{file}: the keys cannot be read: {error}") from error
        keys += Keys.from_lines(text.splitlines(), file, allow_plain=False).keys
        if not keys:
            raise PolytaskError(f"{file}: the file has no keys. Create one with: polytask serve --new-key infer")
    return Keys(keys)


def new_key(scopes: str) -> tuple[str, str]:
    """A random key, and its line for a key file.

    Args:
        scopes: separated by commas.

    Raises:
        PolytaskError: a scope is unknown.
    """
    for scope in scopes.split(","):
        if scope not in SCOPES:
            raise UnknownName("scope", scope, sorted(SCOPES))
    key = f"pt-{secrets.token_urlsafe(32)}"
    return key, f"{scopes} {hashlib.sha256(key.encode()).hexdigest()}"
