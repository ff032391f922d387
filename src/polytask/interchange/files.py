"""Reads untrusted files of other libraries, from a folder or the hub.

Weights are read from safetensors if present, else from a ``.bin`` with ``weights_only=True``, which loads tensors and
runs no code.
"""

from __future__ import annotations

import hashlib
import pickle
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor

from polytask.adapters.adapter import MAX_FILE_BYTES, MAX_TENSORS
from polytask.adapters.canonical_json import parsed_json
from polytask.errors import AdapterError, WriteError

MAX_JSON_BYTES = 16 << 20
DOWNLOAD_PATTERNS = ("*.json", "*.safetensors", "*.bin")
"""Patterns of the files that are downloaded from a repository."""


@dataclass(frozen=True)
class Files:
    """A folder with the files of another library.

    ``name`` and ``revision`` are those of the repository; for a local folder its name and an empty string.
    """

    folder: Path
    name: str
    revision: str = ""

    def has(self, file: str) -> bool:
        """Whether a file exists."""
        return (self.folder / file).is_file()

    def text(self, file: str, key: str) -> str | None:
        """The text under a key of a JSON file; None if there is none."""
        value = self.json(file).get(key)
        return value if isinstance(value, str) and value else None

    def json(self, file: str) -> dict[str, Any]:
        """The object in a JSON file.

        Raises:
            AdapterError: the file is missing, too large or not a JSON object.
        """
        content = parsed_json(self._read(file, MAX_JSON_BYTES), str(self.folder / file))
        if not isinstance(content, dict):
            raise AdapterError(f"{self.folder / file} does not hold a JSON object")
        return content

    def weights(self, *names: str) -> str:
        """The name of the first of these files that exists.

        Raises:
            AdapterError: none exists.
        """
        for name in names:
            if self.has(name):
                return name
        raise AdapterError(f"{self.folder} has no weights: expected one of {', '.join(names)}")

    def tensors(self, file: str) -> dict[str, Tensor]:
        """The tensors in a file of weights, in fp32.

        Raises:
            AdapterError: the file cannot be read safely, or holds anything but tensors.
        """
        path, content = self.folder / file, self._read(file, MAX_FILE_BYTES)
        try:
            found = safetensors.load(content) if path.suffix == ".safetensors" else _unpickled(path)
        except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
            reason = str(error).partition("\n")[0][:200]
            raise AdapterError(f"{path} cannot be read safely as tensors: {reason}") from error
        if len(found) > MAX_TENSORS:
            raise AdapterError(f"{path} holds {len(found):,} tensors; the limit is {MAX_TENSORS:,}")
        return {name: tensor.detach().float().contiguous() for name, tensor in found.items()}

    def sha256(self, file: str) -> str:
        """The SHA-256 of a file, in hexadecimal."""
        return hashlib.sha256(self._read(file, MAX_FILE_BYTES)).hexdigest()

    def _read(self, file: str, max_bytes: int) -> bytes:
        path = self.folder / file
        try:
            if path.stat().st_size > max_bytes:
                raise AdapterError(f"{path} is too large; the limit is {max_bytes:,} bytes")
            return path.read_bytes()
        except OSError as error:
            raise AdapterError(f"{path}: {error.strerror or error}") from error


def _unpickled(path: Path) -> dict[str, Tensor]:
    found = torch.load(path, map_location="cpu", weights_only=True)
    is_valid = isinstance(found, dict) and all(
        isinstance(name, str) and isinstance(tensor, Tensor) and tensor.is_floating_point()
        for name, tensor in found.items()
    )
    if not is_valid:
        raise ValueError("it is not a mapping of names to floating-point tensors")
    return dict(found)


def files_at(source: str | Path) -> Files:
    """The files in a folder, or in a repository of the hub: ``OWNER/NAME`` or ``OWNER/NAME@revision``.

    Raises:
        AdapterError: there is neither such a folder nor such a repository.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        return Files(folder, folder.resolve().name)
    name = str(source).removeprefix("hub:")
    if folder.exists() or name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise AdapterError(f"there is no folder {source}. Give a folder, or a repository on the hub as OWNER/NAME")
    from polytask.interchange.hub import download_files

    repository, _, revision = name.partition("@")
    folder, commit = download_files(repository, revision or None, DOWNLOAD_PATTERNS)
    return Files(folder, repository, commit)


@contextmanager
def whole_folder(target: str | Path) -> Iterator[Path]:
    """Yield a temporary folder; it is renamed to ``target`` if the block ends without an error.

    Raises:
        WriteError: ``target`` exists and is not empty, or cannot be written.
    """
    path = Path(target).expanduser()
    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise WriteError(path, "it exists and is not an empty folder. Choose another name")
        path.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part"))
        try:
            yield part
            part.chmod(0o755)
            if path.is_dir():
                path.rmdir()
            part.replace(path)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except WriteError:
        raise
    except OSError as error:
        raise WriteError(path, error.strerror or error) from error
