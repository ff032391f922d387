"""``Adapter``: everything that one task adds to a backbone, as one safetensors file.

Every ``Adapter`` object is valid. Training and loading run the same checks: the header's closed schema, the names and
shapes of tensors that follow from it, finite numbers, and the digest.

Tensors are read into memory, not mapped, so that a later change of the file cannot change what was checked. The sizes
that a header claims are compared with the file's size before anything is allocated.

The digest is a SHA-256. For each tensor, sorted by name, it covers the canonical JSON ``[name,"F32",shape]``, a newline
and the tensor's little-endian bytes; then the canonical JSON of the header without ``digest`` and ``created``.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, BinaryIO, Protocol

import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor

from polytask.adapters.canonical_json import canonical, parsed_json
from polytask.adapters.expected_tensors import check_tensors
from polytask.adapters.header import MAX_HEADER_BYTES, Header, Inputs, now, plain_name
from polytask.architectures import HeadLayer, Pooling
from polytask.data.task import Kind
from polytask.errors import AdapterError, WrongBackbone, WrongDepth, WrongTokenizer, WrongWidth
from polytask.evaluation.decision import decision_of
from polytask.files import whole_file
from polytask.methods import Method, described

MAX_FILE_BYTES = 8 << 30
MAX_PREAMBLE_BYTES = 4 * MAX_HEADER_BYTES
MAX_TENSORS = 1 << 14
MAX_DIMENSIONS = 8

_KEY = "polytask"
_FLOAT32_BYTES = 4
NONE = "none."
"""The prefix of the names of a detector's tensors (``none``)."""


class Identity(Protocol):
    """What a header records of a backbone; ``Backbone`` has it."""

    @property
    def name(self) -> str: ...
    @property
    def architecture(self) -> str: ...
    @property
    def hidden(self) -> int: ...
    @property
    def num_layers(self) -> int: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def tokenizer_fingerprint(self) -> str: ...
    @property
    def pooling(self) -> Pooling: ...


@dataclass(frozen=True, eq=False)
class Adapter:
    """One task's deltas, head, label names and provenance.

    Attributes:
        header: everything but the tensors.
        tensors: in fp32 on the CPU, named ``layer.<i>.<site>.<parameter>``, ``embed_norm.<parameter>``,
            ``head.<parameter>`` or ``backbone.<parameter>``.

    Raises:
        AdapterError: the tensors do not match the header, or a number is not finite.
    """

    header: Header
    tensors: Mapping[str, Tensor] = field(repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tensors", MappingProxyType(dict(self.tensors)))
        self._check()

    def __repr__(self) -> str:
        """``<Adapter 'spam': houlsby on 'minilm', classification (ham, spam), accuracy 0.950, 2.4 MB>``."""
        own = self.header
        labels = f" ({', '.join(own.head.labels[:8])}{', …' if len(own.head.labels) > 8 else ''})"
        kind = f"{own.head.kind}{labels if own.head.labels else ''}"
        size = f"{own.metric} {own.score:.3f}, {self.num_bytes / 1e6:.1f} MB"
        return f"<Adapter {own.task!r}: {own.method.name} on {own.backbone.name!r}, {kind}, {size}>"

    @classmethod
    def create(
        cls,
        tensors: Mapping[str, Tensor],
        *,
        task: str,
        kind: Kind,
        labels: Sequence[str],
        method: Method,
        backbone: Identity,
        metric: str,
        score: float,
        recipe: Mapping[str, Any],
        result: Mapping[str, Any] | None = None,
        versions: Mapping[str, str] | None = None,
        inputs: Inputs | None = None,
        prediction_head: Sequence[HeadLayer] = (),
        source: Mapping[str, str] | None = None,
        start: Mapping[str, Any] | None = None,
        decides: Mapping[str, Mapping[str, Any] | None] | None = None,
    ) -> Adapter:
        """A new adapter; the tensors are copied.

        Args:
            tensors: in fp32 on any device, named as in the file.
            task: the task's name.
            kind: the kind of head.
            labels: label names in the order of the head's outputs.
            method: what was trained.
            backbone: what it was trained on.
            metric: the name of the metric.
            score: the metric on the validation rows.
            recipe: how it was trained, as JSON values.
            result: data digest, numbers of rows, scores and seconds, as JSON values.
            versions: versions of the packages that a result depends on.
            inputs: what a row of the task is; left out if None.
            prediction_head: the layers of the head before its last.
            source, start: the file of another library, or the adapters, that this was made from (``provenance.py``).
            decides: the header's fields on how scores become answers, such as ``calibration``; none unless given.

        Raises:
            AdapterError: these do not make a valid adapter, for example because training diverged.
        """
        head = {"kind": kind, "labels": list(labels)}
        own = {"task": task, "head": head, "method": described(method), "metric": metric, "score": score}
        free = {"recipe": dict(recipe), "result": dict(result or {}), "versions": dict(versions or {})}
        copies = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
        layers = [layer.to_json() for layer in prediction_head]
        objects = {"source": source, "start": start, **(decides or {})}
        given = {"inputs": inputs, "prediction_head": layers, **{k: of and dict(of) for k, of in objects.items()}}
        added = {name: value for name, value in given.items() if value}
        return cls.with_digest(
            {"format": 2 if added else 1, **own, **added, **free, **_backbone_fields(backbone)}, copies
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Adapter:
        """Read an adapter file.

        Raises:
            AdapterError: the file is missing, damaged, altered, too large or not an adapter; the message names it.
        """
        with errors_naming(path), open_regular(path) as (stream, size_bytes):
            return cls.from_bytes(stream.read(size_bytes))

    @classmethod
    def from_bytes(cls, data: bytes) -> Adapter:
        """The adapter in the content of a file.

        Raises:
            AdapterError: the content is damaged, altered, too large or not an adapter.
        """
        header = read_header(io.BytesIO(data), len(data))
        try:
            return cls(header, safetensors.load(data))
        except SafetensorError as error:
            raise AdapterError(f"not a valid safetensors file: {error}") from error

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the content of the file, so that unpickling runs the same checks as loading."""
        return Adapter.from_bytes, (self.to_bytes(),)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file, whole or not at all."""
        content = self.to_bytes()
        with whole_file(path) as part:
            part.write_bytes(content)

    def to_bytes(self) -> bytes:
        """The content of the file."""
        self._check()
        return safetensors.save(dict(self.tensors), self._metadata())

    def renamed(self, task: str) -> Adapter:
        """The same adapter under another task's name."""
        return self.with_digest({**self.header.to_object(), "task": plain_name(task)}, self.tensors)

    def folded(self) -> Adapter:
        """The same adapter with its calibration folded into the head and without ``none``, for other libraries.

        Probabilities do not change. A label of a multi-label task is given from ``Calibration.cuts`` on.
        """
        header = self.header
        own = decision_of(header.head.kind, header.head.labels, header.decides).calibration
        tensors = {name: tensor for name, tensor in self.tensors.items() if not name.startswith(NONE)}
        given = replace(header, calibration=None, none=None).to_object()
        if own is None:
            return self if header.none is None else self.with_digest(given, tensors)
        scale, shift = (torch.tensor(part, dtype=torch.float64) for part in own.affine(header.head.num_outputs))
        weight, bias = (self.tensors[f"head.{name}"].double() for name in ("weight", "bias"))
        head = {"head.weight": weight * scale[:, None], "head.bias": bias * scale + shift}
        return self.with_digest(given, {**tensors, **{name: tensor.float() for name, tensor in head.items()}})

    def fits(self, backbone: Identity) -> None:
        """Refuse a backbone other than the one that this adapter was trained on.

        Raises:
            WrongDepth, WrongWidth, WrongBackbone, WrongTokenizer: for the first difference, in this order.
        """
        of, task = self.header.backbone, f"the adapter of {self.header.task!r} was trained on"
        if of.layers != backbone.num_layers:
            raise WrongDepth(f"{task} {of.name!r} with {of.layers} layers; {backbone.name!r} has {backbone.num_layers}")
        if of.hidden != backbone.hidden:
            raise WrongWidth(f"{task} {of.name!r} of width {of.hidden}; {backbone.name!r} has width {backbone.hidden}")
        for what, own, given in (
            ("the architecture", of.architecture, backbone.architecture),
            ("the pooling", self.header.pooling, backbone.pooling),
            ("weights with the fingerprint", of.fingerprint, backbone.fingerprint),
        ):
            if own != given:
                fix = f". Load it with load_backbone({of.name!r}, pooling={own!r})" if what == "the pooling" else ""
                raise WrongBackbone(f"{task} {of.name!r}, {what} {own!r}; {backbone.name!r} has {given!r}{fix}")
        if self.header.tokenizer != backbone.tokenizer_fingerprint:
            raise WrongTokenizer(
                f"{task} texts tokenized with the fingerprint {self.header.tokenizer!r}; "
                f"the tokenizer of {backbone.name!r} has {backbone.tokenizer_fingerprint!r}"
            )

    @property
    def method(self) -> Method:
        """What was trained."""
        return self.header.method

    @property
    def num_bytes(self) -> int:
        """Bytes of all tensors, without the header."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    @property
    def tensor_digest(self) -> str:
        """SHA-256 over the tensors alone. Equal training gives an equal digest, whatever its name and duration."""
        return _hash_tensors(self.tensors).hexdigest()

    @classmethod
    def with_digest(cls, given: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Adapter:
        """An adapter with these header fields as JSON values; ``digest`` and ``created`` are added."""
        _check_float32(tensors)
        unsigned = parsed_json(canonical({**given, "created": now(), "digest": "0" * 64}), "the header")
        header = Header.from_object(unsigned)
        return cls(Header.from_object({**header.to_object(), "digest": _digest(header, tensors)}), tensors)

    def _check(self) -> None:
        if len(self.tensors) > MAX_TENSORS or self.num_bytes > MAX_FILE_BYTES - MAX_PREAMBLE_BYTES:
            raise AdapterError(
                f"{len(self.tensors):,} tensors of {self.num_bytes:,} bytes are more than a file may hold"
            )
        _check_float32(self.tensors)
        check_tensors(self.header, {name: tuple(tensor.shape) for name, tensor in self.tensors.items()})
        for name, tensor in self.tensors.items():
            if not torch.isfinite(tensor).all():
                raise AdapterError(f"the tensor {name!r} holds NaN or an infinity; training may have diverged")
        if _digest(self.header, self.tensors) != self.header.digest:
            raise AdapterError("the digest does not match the content: the adapter was altered after it was made")

    def _metadata(self) -> dict[str, str]:
        return {_KEY: self.header.to_json()}


def read_header(stream: BinaryIO, size_bytes: int) -> Header:
    """Read the header of an adapter file, without its tensors.

    Args:
        stream: the file's content, from its beginning.
        size_bytes: the file's size. It is compared with the sizes of the tensors, so that a truncated file is refused.

    Raises:
        AdapterError: this is not an adapter file, or not of this size.
    """
    if size_bytes > MAX_FILE_BYTES:
        raise AdapterError(f"too large: {size_bytes:,} bytes, and at most {MAX_FILE_BYTES:,} are read")
    start = stream.read(8)
    length = int.from_bytes(start, "little")
    if len(start) < 8 or length > min(MAX_PREAMBLE_BYTES, size_bytes - 8):
        raise AdapterError("truncated, or not a safetensors file")
    preamble = parsed_json(stream.read(length), "the beginning of the file")
    metadata = preamble.pop("__metadata__", None) if isinstance(preamble, dict) else None
    if not isinstance(metadata, dict) or set(metadata) != {_KEY} or not isinstance(metadata[_KEY], str):
        raise AdapterError(f"not an adapter of Polytask: the file's metadata is not one JSON header called {_KEY!r}")
    _check_tensor_list(preamble, size_bytes - 8 - length)
    return Header.from_json(metadata[_KEY])


def _check_tensor_list(entries: Mapping[str, Any], given_bytes: int) -> None:
    """Refuse a list of tensors that are not fp32, or that do not fill the rest of the file."""
    if len(entries) > MAX_TENSORS:
        raise AdapterError(f"{len(entries):,} tensors, and at most {MAX_TENSORS:,} are read")
    claimed = 0
    for name, entry in entries.items():
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise AdapterError(f"the tensor {name!r} is not described by its dtype, shape and offsets")
        if entry["dtype"] != "F32":
            raise AdapterError(f"the tensor {name!r} is of type {entry['dtype']!r}; all are 'F32'")
        shape = entry["shape"]
        if not isinstance(shape, list) or len(shape) > MAX_DIMENSIONS or not all(map(_is_dimension, shape)):
            raise AdapterError(f"the tensor {name!r} has an impossible shape")
        claimed += _FLOAT32_BYTES * math.prod(shape)
    if claimed != given_bytes:
        how = "truncated" if claimed > given_bytes else "too long"
        raise AdapterError(
            f"{how}: the tensors take {claimed:,} bytes, and the file has {given_bytes:,} bytes for them"
        )


def _is_dimension(n: object) -> bool:
    return type(n) is int and 0 <= n <= MAX_FILE_BYTES


def _backbone_fields(backbone: Identity) -> dict[str, Any]:
    """The header's fields about the backbone."""
    fields = {"name": backbone.name, "architecture": backbone.architecture, "hidden": backbone.hidden}
    fields |= {"layers": backbone.num_layers, "fingerprint": backbone.fingerprint}
    return {"backbone": fields, "tokenizer": backbone.tokenizer_fingerprint, "pooling": backbone.pooling}


def _check_float32(tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32:
            raise AdapterError(f"the tensor {name!r} is of type {tensor.dtype}; adapters are kept in torch.float32")


def _hash_tensors(tensors: Mapping[str, Tensor]) -> hashlib._Hash:
    sha = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        sha.update(canonical([name, "F32", list(tensor.shape)]) + b"\n")
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return sha


def _digest(header: Header, tensors: Mapping[str, Tensor]) -> str:
    sha = _hash_tensors(tensors)
    covered = {name: value for name, value in header.to_object().items() if name not in ("digest", "created")}
    sha.update(canonical(covered))
    return sha.hexdigest()


@contextlib.contextmanager
def open_regular(path: str | os.PathLike[str]) -> Iterator[tuple[BinaryIO, int]]:
    """Open a regular file for reading; gives the stream and the size in bytes.

    Raises:
        AdapterError: this is a folder, a pipe or a device, or the file is too large.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise AdapterError("not a regular file")
    with open(path, "rb") as stream:
        size_bytes = os.fstat(stream.fileno()).st_size
        if size_bytes > MAX_FILE_BYTES:
            raise AdapterError(f"too large: {size_bytes:,} bytes, and at most {MAX_FILE_BYTES:,} are read")
        yield stream, size_bytes


@contextlib.contextmanager
def errors_naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Within the block, every error becomes an ``AdapterError`` whose message begins with the path."""
    try:
        yield
    except AdapterError as error:
        raise type(error)(f"{os.fspath(path)}: {error}") from error
    except OSError as error:
        raise AdapterError(f"{os.fspath(path)}: {error.strerror or error}") from error
    except MemoryError as error:
        raise AdapterError(f"{os.fspath(path)}: there is not enough memory to read it") from error
