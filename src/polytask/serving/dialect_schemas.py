"""Request and response bodies of the protocols of other servers; the rules of ``schemas`` hold here, too."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from polytask.serving.schemas import Calibrated, Closed, Open, Reference, TextList, Threshold

# vLLM's /classify


class VllmRequest(Open):
    """As vLLM's ``/classify``, with ``threshold`` and ``calibrated`` of the native API."""

    model: Reference
    input: str | TextList
    threshold: Threshold | None = None
    calibrated: Calibrated = True


class VllmItem(Open):
    """``probs`` in the order of the adapter's labels. Some kinds of tasks, and abstained answers, have more fields."""

    index: int
    label: str | None
    probs: list[float]
    num_classes: int
    labels: list[str] | None = None
    abstained: bool | None = None
    none: bool | None = None
    interval: list[float] | None = None
    start: int | None = None
    end: int | None = None


class VllmUsage(Closed):
    """Tokens that were processed."""

    prompt_tokens: int
    total_tokens: int
    completion_tokens: int
    prompt_tokens_details: None


class VllmResponse(Closed):
    """As vLLM's ``/classify``."""

    id: str
    object: Literal["list"]
    created: int
    model: str
    data: list[VllmItem]
    usage: VllmUsage


# Text Embeddings Inference's /predict

OneOrTwo = Annotated[list[str], Field(min_length=1, max_length=2, fail_fast=True)]


class TeiRequest(Open):
    """As TEI's ``/predict``: a text, a pair of texts, or a batch of lists with one or two texts.

    There is no ``threshold``: the answer has the scores of all labels, whether the adapter abstains or not.
    """

    inputs: str | OneOrTwo | Annotated[list[OneOrTwo], Field(min_length=1, fail_fast=True)]
    raw_scores: Literal[False] = False
    truncate: bool = True
    calibrated: Calibrated = True


class TeiModelRequest(TeiRequest):
    """A TEI request to a path without an adapter's name; ``model`` is optional if the store has one task."""

    model: Reference | None = None


class TeiScore(Closed):
    """A label and its probability."""

    label: str
    score: float


# The Open Inference Protocol, version 2


class TensorIn(Open):
    """An input tensor of texts."""

    name: Annotated[str, StringConstraints(max_length=64)]
    shape: Annotated[list[Annotated[int, Field(ge=0, le=1 << 20)]], Field(min_length=1, max_length=2, fail_fast=True)]
    datatype: Literal["BYTES"]
    data: (
        Annotated[list[str], Field(fail_fast=True)]
        | Annotated[list[Annotated[list[str], Field(fail_fast=True)]], Field(fail_fast=True)]
    )


class InferParameters(Open):
    """``threshold`` and ``calibrated`` as in the native API; other parameters are ignored."""

    threshold: Threshold | None = None
    calibrated: Calibrated = True


class InferRequest(Open):
    """A tensor ``text`` and, for pairs, ``text_pair``, of shape ``[n]`` each."""

    id: Annotated[str, StringConstraints(max_length=128)] | None = None
    parameters: InferParameters | None = None
    inputs: Annotated[list[TensorIn], Field(min_length=1, max_length=2, fail_fast=True)]


class TensorOut(Closed):
    """An output tensor; ``data`` is in row-major order."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any]


class InferResponse(Closed):
    """The output tensors; which ones depends on the kind of task."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[TensorOut]


class TensorMetadata(Closed):
    """Name, type and shape of a tensor."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(Closed):
    """Inputs and outputs of a model."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
    parameters: dict[str, Any]


class ServerMetadata(Closed):
    """Server metadata."""

    name: str
    version: str
    extensions: list[str]


class Live(Closed):
    """Whether the process answers."""

    live: bool


class Ready(Closed):
    """Whether the server accepts requests."""

    ready: bool


class ModelReady(Closed):
    """Whether a model accepts requests."""

    name: str
    ready: bool


class IndexRequest(Open):
    """Which models to list."""

    ready: bool = False


class IndexEntry(Closed):
    """A model in the repository."""

    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]
    reason: str
