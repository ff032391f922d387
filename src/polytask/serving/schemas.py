"""The bodies of requests and responses, as pydantic models: what OpenAPI says is what is checked."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

PLAIN = r"[A-Za-z0-9][A-Za-z0-9._\-]{0,63}"
Task = Annotated[str, StringConstraints(pattern=rf"^{PLAIN}$", max_length=64)]
Reference = Annotated[str, StringConstraints(pattern=rf"^{PLAIN}(@{PLAIN})?$", max_length=129)]
"""``task``, ``task@version`` or ``task@alias``."""
Pair = Annotated[list[str], Field(min_length=2, max_length=2)]
Texts = str | Annotated[list[str | Pair], Field(min_length=1)]
Seconds = Annotated[float, Field(gt=0, le=3600)]


class Closed(BaseModel):
    """A body of ours: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class Open(BaseModel):
    """A body of a foreign protocol: unknown fields are passed over."""

    model_config = ConfigDict(extra="ignore")


class Error(Closed):
    """Why a request was not answered."""

    code: str
    type: str
    message: str
    param: str | None
    request_id: str
    retryable: bool


class ErrorBody(Closed):
    """The body of every response that is no success."""

    error: Error


# The native API


class ClassifyRequest(Closed):
    """Texts for one task (``model``) or for several (``models``): for each text the tasks share what they can."""

    model: Reference | None = None
    models: Annotated[list[Reference], Field(min_length=1, max_length=128)] | None = None
    input: Texts = Field(description="A text, a list of texts, or a list of [text, second text].")
    on_error: Literal["fail", "null"] = Field(
        "fail", description="With null a text without an answer has an error in its place, and the others are answered."
    )
    timeout_s: Seconds | None = None


class Usage(Closed):
    """Tokens that were read."""

    prompt_tokens: int
    total_tokens: int


class ClassifyItem(Open):
    """The answer of one task to one text: the fields that its kind of task has."""

    index: int
    task: str
    num_classes: int
    label: str | None = None
    labels: list[str] | None = None
    probs: dict[str, float] | None = None
    score: float | None = None
    interval: list[float] | None = None
    abstained: bool | None = None
    answer: str | None = None
    start: int | None = None
    end: int | None = None
    error: str | None = None


class ClassifyResponse(Closed):
    """For each text, in their order, the answers of all tasks, in theirs. ``model`` has the versions that answered."""

    id: str
    object: Literal["classification"]
    model: str
    data: list[ClassifyItem]
    usage: Usage


class Model(Closed):
    """A version of a task's adapter."""

    id: str
    object: Literal["model"]
    task: str
    version: int
    is_latest: bool
    aliases: list[str]
    share: float | None
    digest: str
    kind: str
    takes: str | None
    labels: list[str]
    method: dict[str, Any]
    metric: str
    score: float
    size_bytes: int
    is_resident: bool
    created: str


class Refused(Closed):
    """A version in the store that is not served, and why."""

    id: str
    reason: str


class Models(Closed):
    """All versions that are served, and those that are refused."""

    object: Literal["list"]
    backbone: str
    data: list[Model]
    refused: list[Refused]


class Stats(Closed):
    """The last ten seconds."""

    rows_per_s: float
    tokens_per_s: float
    batches_per_s: float
    uptime_s: float
    queue_tokens: int
    in_flight: int
    adapters: int
    adapters_resident: int
    resident_bytes: int


class Status(Closed):
    """The server is well, or ready."""

    status: str


# Management


class AliasRequest(Closed):
    """The version that an alias is to point to."""

    version: int = Field(ge=1, lt=10**9)


class TrafficRequest(Closed):
    """The share of a task's requests that each version answers; empty for the latest version alone."""

    shares: dict[Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,8}$")], Annotated[float, Field(ge=0, le=1)]]


class Managed(Closed):
    """What was done."""

    id: str
    status: str


# vLLM's /classify


class VllmRequest(Open):
    """As vLLM's ``/classify``."""

    model: Reference
    input: str | Annotated[list[str | Pair], Field(min_length=1)]


class VllmItem(Open):
    """``probs`` in the order of the adapter's labels."""

    index: int
    label: str | None
    probs: list[float]
    num_classes: int


class VllmUsage(Closed):
    """Tokens that were read."""

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

OneOrTwo = Annotated[list[str], Field(min_length=1, max_length=2)]


class TeiRequest(Open):
    """As ``/predict`` of Text Embeddings Inference: a text, a pair of texts, or a batch of lists of one or two."""

    inputs: str | OneOrTwo | Annotated[list[OneOrTwo], Field(min_length=1)]
    raw_scores: Literal[False] = False
    truncate: bool = True


class TeiModelRequest(TeiRequest):
    """The same where the path names no adapter; ``model`` may be left out where the store has one task."""

    model: Reference | None = None


class TeiScore(Closed):
    """A label and its probability."""

    label: str
    score: float


# The Open Inference Protocol, version 2


class TensorIn(Open):
    """A tensor of texts."""

    name: Annotated[str, StringConstraints(max_length=64)]
    shape: Annotated[list[Annotated[int, Field(ge=0, le=1 << 20)]], Field(min_length=1, max_length=2)]
    datatype: Literal["BYTES"]
    data: list[str] | list[list[str]]


class InferRequest(Open):
    """``text``, and ``text_pair`` for a task of pairs, ``[n]`` each."""

    id: Annotated[str, StringConstraints(max_length=128)] | None = None
    inputs: Annotated[list[TensorIn], Field(min_length=1, max_length=2)]


class TensorOut(Closed):
    """A tensor of answers, its data row by row."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any]


class InferResponse(Closed):
    """The tensors that the task's kind has."""

    model_name: str
    model_version: str
    id: str | None
    outputs: list[TensorOut]


class TensorMetadata(Closed):
    """What a tensor is."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(Closed):
    """What a model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
    parameters: dict[str, Any]


class ServerMetadata(Closed):
    """What the server is."""

    name: str
    version: str
    extensions: list[str]


class Live(Closed):
    """Whether the process answers."""

    live: bool


class Ready(Closed):
    """Whether the server takes requests."""

    ready: bool


class ModelReady(Closed):
    """Whether a model takes requests."""

    name: str
    ready: bool


class IndexRequest(Open):
    """Which models to list."""

    ready: bool = False


class IndexEntry(Closed):
    """A model of the repository."""

    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]
    reason: str
