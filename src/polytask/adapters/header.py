"""The header of an adapter file: a closed schema, read strictly and written as canonical JSON.

New headers and those of unknown files pass through the same checks, ``Header.from_object``. So no header can be written
that could not be read.

Fields that every header has::

    format     1
    task       a plain name
    head       {"kind": one of KINDS, "labels": [distinct names; none for regression and span]}
    method     {"name": …, and the method's settings}
    pooling    "pooler", "cls", "mean", "last" or "late"
    backbone   {"name", "architecture", "hidden", "layers", "fingerprint"}
    tokenizer  its fingerprint
    metric     the metric's name          score    its value on the validation rows
    recipe     {…} how it was trained     result   {…} data digest, numbers of rows, scores, seconds
    versions   {"torch": "2.13.0", …}     created  "2026-11-22T20:46:00Z"
    digest     SHA-256 over the tensors and this header without ``digest`` and ``created``

``recipe`` and ``result`` are JSON objects with any fields.

Optional fields; a header with one of them has ``format`` 2::

    inputs           what the task takes: "single", "pair" or "question+context"
    prediction_head  the layers below the head's last, with tensors named "head.<n>.…":
                     [{"layer": "dense", "bias": true}, {"layer": "gelu"}, {"layer": "norm", "bias": false, …}]
    source, start    the file of another library, or the adapters, that it was made from: adapters/provenance.py
    calibration, thresholds, none  how a row's scores become its answer: evaluation/decision.py
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timezone
from types import MappingProxyType
from typing import Any, Literal, cast

from polytask.adapters.canonical_json import canonical, parsed_json
from polytask.adapters.provenance import DIGEST, check_source, check_start
from polytask.adapters.schema import check_filled, closed
from polytask.architectures import HEAD_ACTIVATIONS, POOLINGS, HeadLayer, Pooling
from polytask.data.task import KINDS, Kind, num_outputs
from polytask.errors import AdapterError, PolytaskError
from polytask.evaluation.decision import FIELDS, decision_of
from polytask.methods import Method, described, method_described
from polytask.serialization import ADDED, added_fields, to_json

FORMATS = (1, 2)
MAX_HEADER_BYTES = 1 << 20
MAX_LAYERS = 512
MAX_WIDTH = 1 << 20
MAX_HEAD_LAYERS = 8

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# A setting has the type of its default, or one of these: ``layers`` is None, a number or a list.
_ALSO_OF: Mapping[type, tuple[type, ...]] = {float: (int,), type(None): (int, tuple, bool)}
_MOST_SCORE = sys.float_info.max
_CREATED = "%Y-%m-%dT%H:%M:%SZ"

_HEADER: Mapping[str, tuple[type, ...]] = {
    "format": (int,),
    "task": (str,),
    "head": (dict,),
    "method": (dict,),
    "pooling": (str,),
    "backbone": (dict,),
    "tokenizer": (str,),
    "metric": (str,),
    "score": (float, int),
    "recipe": (dict,),
    "result": (dict,),
    "versions": (dict,),
    "created": (str,),
    "digest": (str,),
}
_OPTIONAL: dict[str, tuple[type, ...]] = {
    "inputs": (str,),
    "prediction_head": (list,),
    "source": (dict,),
    "start": (dict,),
    **FIELDS,
}
"""Optional fields are left out at their default, so files of format 1 keep their digests."""
Inputs = Literal["single", "pair", "question+context"]
_HEAD: Mapping[str, tuple[type, ...]] = {"kind": (str,), "labels": (list,)}
_HEAD_LAYERS: Mapping[str, Mapping[str, tuple[type, ...]]] = {
    "dense": {"bias": (bool,)},
    "norm": {"bias": (bool,), "eps": (float, int)},
    **dict.fromkeys(HEAD_ACTIVATIONS, MappingProxyType({})),
}
_BACKBONE: Mapping[str, tuple[type, ...]] = {
    "name": (str,),
    "architecture": (str,),
    "hidden": (int,),
    "layers": (int,),
    "fingerprint": (str,),
}


@dataclass(frozen=True)
class HeadHeader:
    """The kind of head, and the label names in the order of its outputs."""

    kind: Kind
    labels: tuple[str, ...]

    @property
    def num_outputs(self) -> int:
        """The number of outputs, which is the number of rows of the head's weight."""
        return num_outputs(self.kind, len(self.labels))


@dataclass(frozen=True)
class BackboneHeader:
    """The backbone that the adapter was trained on: ``hidden`` is its width, ``layers`` its depth."""

    name: str
    architecture: str
    hidden: int
    layers: int
    fingerprint: str


@dataclass(frozen=True)
class Header:
    """The metadata of an adapter. Made by ``from_object`` only, which checks every field."""

    task: str
    head: HeadHeader
    method: Method
    pooling: Pooling
    backbone: BackboneHeader
    tokenizer: str
    metric: str
    score: float
    recipe: Mapping[str, Any]
    result: Mapping[str, Any]
    versions: Mapping[str, str]
    created: str
    digest: str
    inputs: Inputs | None = field(default=None, metadata=ADDED)
    prediction_head: tuple[Mapping[str, Any], ...] = field(default=(), metadata=ADDED)
    source: Mapping[str, str] | None = field(default=None, metadata=ADDED)
    start: Mapping[str, Any] | None = field(default=None, metadata=ADDED)
    calibration: Mapping[str, Any] | None = field(default=None, metadata=ADDED)
    thresholds: Mapping[str, Any] | None = field(default=None, metadata=ADDED)
    none: Mapping[str, Any] | None = field(default=None, metadata=ADDED)

    @property
    def prediction_layers(self) -> tuple[HeadLayer, ...]:
        """The layers of the head below its last."""
        return tuple(_head_layer(given) for given in self.prediction_head)

    @property
    def decides(self) -> dict[str, Any]:
        """The fields that decide how a row's scores become its answer."""
        return {name: getattr(self, name) for name in FIELDS}

    @property
    def takes(self) -> Inputs | None:
        """What a row of the task is. In format 1 it follows from the recorded columns; None if there are none."""
        if self.inputs is not None or self.head.kind == "span":
            return self.inputs or "question+context"
        columns = self.result.get("columns")
        if not isinstance(columns, Mapping) or "text_pair" not in columns:
            return None
        return "single" if columns["text_pair"] is None else "pair"

    @classmethod
    def from_object(cls, given: object) -> Header:
        """A header from its parsed JSON.

        Raises:
            AdapterError: a field is missing, unknown, of the wrong type or out of range.
        """
        if isinstance(given, dict) and given.get("format", 1) not in FORMATS:
            raise AdapterError(
                f"the file has format {given['format']!r}; this version of Polytask reads formats {FORMATS}"
            )
        of = closed("the header", given, _HEADER, _OPTIONAL)
        number = 2 if _OPTIONAL.keys() & of.keys() else 1
        if of["format"] != number:
            raise AdapterError(f"the file says format {of['format']} but has the fields of format {number}")
        plain_name(of["task"])
        plain_name(of["metric"], "a metric's name")
        if of["pooling"] not in POOLINGS:
            raise AdapterError(f"pooling is {of['pooling']!r}; it can be {', '.join(POOLINGS)}")
        if not -_MOST_SCORE <= of["score"] <= _MOST_SCORE:
            raise AdapterError(f"the score is {of['score']!r}, which is not a finite number")
        if not all(isinstance(version, str) for version in of["versions"].values()):
            raise AdapterError("'versions' must map names to version strings")
        if not DIGEST.fullmatch(of["digest"]):
            raise AdapterError(f"the digest is {of['digest']!r}; it must be 64 hexadecimal digits")
        check_filled("the header", of, ("tokenizer",))
        _check_created(of["created"])
        backbone = _backbone(of["backbone"])
        head = _head(of["head"])
        _check_inputs(of.get("inputs"), head.kind)
        check_source(of.get("source"))
        check_start(of.get("start"))
        decision_of(head.kind, head.labels, of)
        made: dict[str, Any] = {name: value for name, value in of.items() if name != "format"}
        made |= {"head": head, "backbone": backbone, "score": float(of["score"])}
        made |= {"prediction_head": _prediction_head(of.get("prediction_head"), head.kind)}
        return cls(**made | {"method": _method(of["method"], backbone.layers)})

    @classmethod
    def from_json(cls, text: str) -> Header:
        """A header from its JSON.

        Raises:
            AdapterError: ``text`` is not JSON, or not a header.
        """
        if len(text) > MAX_HEADER_BYTES:
            raise AdapterError(f"the header has {len(text):,} characters; at most {MAX_HEADER_BYTES:,} are read")
        header = cls.from_object(parsed_json(text, "the header"))
        canonical(header.to_object())
        return header

    def to_object(self) -> dict[str, Any]:
        """A JSON object; the inverse of ``from_object``."""
        head = {"kind": self.head.kind, "labels": list(self.head.labels)}
        backbone = {name: getattr(self.backbone, name) for name in _BACKBONE}
        own = to_json(self)
        number = 2 if added_fields(self).keys() & own.keys() else 1
        return {**own, "format": number, "head": head, "backbone": backbone, "method": described(self.method)}

    def to_json(self) -> str:
        """The JSON as written to the file.

        Raises:
            AdapterError: it is longer than ``from_json`` reads.
        """
        text = canonical(self.to_object())
        if len(text) > MAX_HEADER_BYTES:
            raise AdapterError(
                f"the header would have {len(text):,} bytes, and at most {MAX_HEADER_BYTES:,} can be read; "
                "shorten the recipe, the result or the labels"
            )
        return text.decode()


def plain_name(name: object, what: str = "a task's name", error: type[PolytaskError] = AdapterError) -> str:
    """``name``, if it is a safe name for a folder on every system.

    Raises:
        error: it is not.
    """
    if not isinstance(name, str) or not _PLAIN.fullmatch(name):
        raise error(
            f"{name!r} cannot be {what}: 1 to 64 letters, digits, '.', '_' or '-' of ASCII, the first a letter or digit"
        )
    return name


def now() -> str:
    """The current time in UTC, in the format of ``created``."""
    return datetime.now(timezone.utc).strftime(_CREATED)


def _head(given: object) -> HeadHeader:
    of = closed("'head'", given, _HEAD)
    kind, labels = of["kind"], tuple(of["labels"])
    if kind not in KINDS:
        raise AdapterError(f"the head's kind is {kind!r}; it can be {', '.join(KINDS)}")
    if not all(isinstance(label, str) and label for label in labels):
        raise AdapterError("the head's labels hold something that is not a name")
    if len(set(labels)) != len(labels):
        raise AdapterError("the head's labels contain a label twice")
    fewest = {"classification": 2, "multilabel": 1}.get(kind, 0)
    if len(labels) < fewest or (labels and not fewest):
        right = f"at least {fewest}" if fewest else "no"
        raise AdapterError(f"a {kind} head has {right} labels; {len(labels)} are given")
    return HeadHeader(cast(Kind, kind), labels)


def prediction_layers_of(given: list[Any], kind: Kind) -> tuple[HeadLayer, ...]:
    """The layers of a prediction head from their JSON in a header.

    Raises:
        AdapterError: a layer is not known, there are none or too many, or the head is one for spans.
    """
    if not 1 <= len(given) <= MAX_HEAD_LAYERS or kind == "span":
        raise AdapterError(f"'prediction_head' has {len(given)} layers on a {kind} head; at most {MAX_HEAD_LAYERS}")
    return tuple(_head_layer(layer) for layer in given)


def _prediction_head(given: list[Any] | None, kind: Kind) -> tuple[Mapping[str, Any], ...]:
    return () if given is None else tuple(layer.to_json() for layer in prediction_layers_of(given, kind))


def _head_layer(given: Any) -> HeadLayer:
    kind = str(given.get("layer")) if isinstance(given, dict) else "of no kind"
    if kind not in _HEAD_LAYERS:
        raise AdapterError(f"'prediction_head' has a layer {kind!r:.60}; it can be {', '.join(_HEAD_LAYERS)}")
    of = closed(f"the layer {kind!r} of 'prediction_head'", given, {"layer": (str,), **_HEAD_LAYERS[kind]})
    return HeadLayer(kind, of.get("bias", False), float(of.get("eps", 0.0)))


def _check_inputs(inputs: str | None, kind: Kind) -> None:
    if inputs is None:
        return
    right = ("question+context",) if kind == "span" else ("single", "pair")
    if inputs not in right:
        raise AdapterError(f"inputs is {inputs!r}; of a {kind} task it can be {' or '.join(map(repr, right))}")


def _backbone(given: object) -> BackboneHeader:
    of = closed("'backbone'", given, _BACKBONE)
    check_filled("'backbone'", of, ("name", "architecture", "fingerprint"))
    for name, most in (("hidden", MAX_WIDTH), ("layers", MAX_LAYERS)):
        if not 1 <= of[name] <= most:
            raise AdapterError(f"the backbone's {name!r} is {of[name]!r}; it must be between 1 and {most:,}")
    return BackboneHeader(**of)


def _method(given: dict[str, Any], num_layers: int) -> Method:
    try:
        method = method_described(given)
    except (PolytaskError, TypeError, ValueError, OverflowError) as error:
        raise AdapterError(f"the method cannot be read: {error}") from error
    for setting in fields(method):  # type: ignore[arg-type]
        value, usual = getattr(method, setting.name), type(setting.default)
        if type(value) not in _ALSO_OF.get(usual, ()) and type(value) is not usual:
            raise AdapterError(
                f"{setting.name!r} of the method {method.name!r} is {value!r}; it must be a {usual.__name__}"
            )
    layers = getattr(method, "layers", None)
    if max(layers if isinstance(layers, tuple) else ((layers or 0) - 1,), default=0) >= num_layers:
        raise AdapterError(f"the method's layers={layers!r} do not all exist: the backbone has {num_layers} layers")
    return method


def _check_created(created: str) -> None:
    try:
        if datetime.strptime(created, _CREATED).strftime(_CREATED) == created:
            return
    except ValueError:
        pass
    raise AdapterError(f"'created' is {created!r}; it must be a time in UTC such as 2026-11-22T20:46:00Z")
