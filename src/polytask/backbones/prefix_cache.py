"""A cache of hidden states of frozen layers: in memory up to a limit, then in memory-mapped files up to another.

The key covers everything that the states depend on, so an entry is never out of date. States that are not cached, or
cannot be read, are computed again with the same bits. Files are written atomically, never changed, and checked when
they are read. They may be deleted at any time, and processes may share a folder.
"""

from __future__ import annotations

import functools
import hashlib
import json
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from polytask.files import whole_file
from polytask.memory import free_bytes

FORMAT = 1
SUFFIX = ".states"
KEY_BYTES = 16
ENTRY_BYTES, HEADER_BYTES = KEY_BYTES + 16, 1 << 10
MEMORY_SHARE = 0.25
SEGMENT_BYTES = 1 << 25
_META = "polytask-states"
Method = TypeVar("Method", bound=Callable[..., Any])


def key_of(*parts: bytes) -> bytes:
    """A hash of these parts; parts that are divided differently have a different key."""
    hashed = hashlib.blake2b(digest_size=KEY_BYTES)
    for part in parts:
        hashed.update(len(part).to_bytes(8, "little") + part)
    return hashed.digest()


def _synchronized(method: Method) -> Method:
    """Run a method of the cache under its lock."""

    @functools.wraps(method)
    def locked(self: PrefixCache, *args: Any) -> Any:
        with self._lock:
            return method(self, *args)

    return cast(Method, locked)


class PrefixCache:
    """A cache of hidden states of texts, ``[T, D]`` each, on the CPU. Any thread may use it.

    Args:
        memory_bytes: the memory limit (default: a quarter of the free memory at the first ``put``).
        folder: where states go that exceed the memory limit. Without a folder they are not kept.
        folder_bytes: the limit for all files in the folder, also of other processes; the oldest are deleted first.
        segment_bytes: the approximate size of a file.
    """

    def __init__(
        self,
        memory_bytes: int | None = None,
        folder: str | Path | None = None,
        folder_bytes: int = 1 << 33,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        self.memory_bytes, self.folder_bytes, self.segment_bytes = memory_bytes, folder_bytes, segment_bytes
        self.folder = None if folder is None else Path(folder)
        self._lock = threading.RLock()
        self.clear()

    @_synchronized
    def clear(self) -> None:
        """Drop all states in memory; files stay."""
        self.used_bytes, self.generation = 0, 0
        self._in_memory: dict[bytes, tuple[int, Tensor]] = {}
        self._pending: dict[bytes, Tensor] = {}
        self._pending_bytes = 0
        self._segments: dict[Path, Segment | None] = {}
        self._scanned_at = -1

    @_synchronized
    def get(self, key: bytes) -> Tensor | None:
        """The states ``[T, D]`` of a key; None if they are not cached."""
        found = self._in_memory.get(key)
        if found is not None:
            generation, states = found
            if generation != self.generation:  # move to the end, after those that were not used in this generation
                del self._in_memory[key]
                self._in_memory[key] = (self.generation, states)
            return states
        if key in self._pending:
            return self._pending[key]
        return None if self.folder is None else self._read(key)

    @_synchronized
    def put(self, key: bytes, states: Tensor) -> None:
        """Cache states ``[T, D]``, if there is room."""
        if self._free_memory(states.nbytes):
            self.used_bytes += states.nbytes
            self._in_memory[key] = (self.generation, states)
        elif self.folder is not None:
            first = next(iter(self._pending.values()), states)
            if (first.dtype, first.shape[1:]) != (states.dtype, states.shape[1:]):
                self.flush()
            self._pending[key] = states
            self._pending_bytes += states.nbytes
            if self._pending_bytes >= self.segment_bytes:
                self.flush()

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Start a generation: within the block, states that were last used before it may be evicted, others are not."""
        with self._lock:
            self.generation += 1
        try:
            yield
        finally:
            self.flush()

    @_synchronized
    def flush(self) -> None:
        """Write the states that exceed the memory limit to a file, if the folder has room."""
        pending, size = self._pending, self._pending_bytes + ENTRY_BYTES * len(self._pending) + HEADER_BYTES
        self._pending, self._pending_bytes = {}, 0
        if self.folder is None or not pending:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if self._free_disk(size):
                path = Segment.write(self.folder, pending)
                self._segments[path] = Segment.read(path, self.generation)
        except OSError:  # the disk is full or the folder read-only: the states are not cached
            return

    def _free_memory(self, size: int) -> bool:
        if self.memory_bytes is None:
            self.memory_bytes = int(MEMORY_SHARE * free_bytes(torch.device("cpu")))
        while self.used_bytes + size > self.memory_bytes and self._in_memory:
            key, (generation, states) = next(iter(self._in_memory.items()))
            if generation == self.generation:
                return False
            del self._in_memory[key]
            self.used_bytes -= states.nbytes
        return self.used_bytes + size <= self.memory_bytes

    def _free_disk(self, size: int) -> bool:
        """Delete the oldest files not used in this generation until ``size`` bytes fit; return whether they do."""
        assert self.folder is not None
        files = []
        for path in self.folder.glob(f"*{SUFFIX}"):
            with suppress(OSError):  # another process has deleted it
                files.append((path.stat().st_mtime_ns, path.stat().st_size, path))
        room = self.folder_bytes - sum(of_file for _, of_file, _ in files)
        for _, of_file, path in sorted(files):
            segment = self._segments.get(path)
            is_needed = segment is not None and segment.generation == self.generation
            if room < size and not is_needed:
                path.unlink(missing_ok=True)
                self._segments.pop(path, None)
                room += of_file
        return room >= size

    def _read(self, key: bytes) -> Tensor | None:
        self._scan_folder()
        for segment in self._segments.values():
            if segment is not None and (states := segment.get(key)) is not None:
                segment.generation = self.generation
                return states
        return None

    def _scan_folder(self) -> None:
        """Map files that were added to the folder since the last scan; damaged files are ignored."""
        assert self.folder is not None
        try:
            changed_at = self.folder.stat().st_mtime_ns
        except OSError:
            return
        if changed_at != self._scanned_at:
            self._scanned_at = changed_at
            for path in sorted(self.folder.glob(f"*{SUFFIX}")):
                if path not in self._segments:
                    self._segments[path] = Segment.read(path)


class Segment:
    """A memory-mapped file of states: those of all texts concatenated, ``[N, D]``, with an index by key."""

    def __init__(self, states: Tensor, places: dict[bytes, tuple[int, int, int]], generation: int) -> None:
        self.states, self.places, self.generation = states, places, generation
        self._checked: set[bytes] = set()

    def get(self, key: bytes) -> Tensor | None:
        """The states of a key; None if they are not in the file, or are damaged."""
        if key not in self.places:
            return None
        start, stop, check = self.places[key]
        states = self.states[start:stop]
        if key not in self._checked:
            if _checksum(states) != check:
                del self.places[key]
                return None
            self._checked.add(key)
        return states

    @classmethod
    def write(cls, folder: Path, states: Mapping[bytes, Tensor]) -> Path:
        """Write states to a file in ``folder``, atomically; its name is a hash of its index."""
        tensors = {
            "keys": torch.frombuffer(bytearray(b"".join(states)), dtype=torch.uint8).view(-1, KEY_BYTES),
            "lengths": torch.tensor([len(of) for of in states.values()]),
            "checks": torch.tensor([_checksum(of) for of in states.values()]),
            "states": torch.cat(list(states.values())),
        }
        digest = _index_digest(tensors)
        path = folder / f"{digest}{SUFFIX}"
        with whole_file(path) as part:
            save_file(tensors, part, metadata={_META: json.dumps({"format": FORMAT, "index": digest})})
        return path

    @classmethod
    def read(cls, path: Path, generation: int = -1) -> Segment | None:
        """Map a file; None if it is damaged or not a file of states. States are checked when they are first read.

        Args:
            path: the file.
            generation: the generation in which it was last used.
        """
        try:
            with safe_open(path, framework="pt") as file:
                says = json.loads((file.metadata() or {})[_META])
                tensors = {name: file.get_tensor(name) for name in ("keys", "lengths", "checks", "states")}
            if says != {"format": FORMAT, "index": _index_digest(tensors)}:
                return None
        except (OSError, SafetensorError, KeyError, ValueError, TypeError):
            return None
        lengths = tensors["lengths"].tolist()
        if sum(lengths) != len(tensors["states"]):
            return None
        ranges = pairwise(accumulate(lengths, initial=0))
        keys = [bytes(key) for key in tensors["keys"].tolist()]
        checks = tensors["checks"].tolist()
        places = {key: (*place, check) for key, place, check in zip(keys, ranges, checks, strict=True)}
        return cls(tensors["states"], places, generation)


def _index_digest(tensors: Mapping[str, Tensor]) -> str:
    parts = [tensors[name].contiguous().view(torch.uint8).numpy().tobytes() for name in ("keys", "lengths", "checks")]
    shape = f"{tensors['states'].dtype}{tuple(tensors['states'].shape)}"
    return key_of(*parts, shape.encode()).hex()


def _checksum(states: Tensor) -> int:
    return zlib.crc32(states.contiguous().view(torch.uint8).numpy().tobytes())
