"""Request and response bodies as pydantic models, from which FastAPI validates requests and writes OpenAPI.

Validation of a list stops at the first invalid item, and at most one unknown field of an object is looked at: pydantic
makes an error object for each problem, so that a small hostile body could otherwise fill the memory.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

PLAIN = r"[A-Za-z0-9][A-Za-z0-9._\-]{0,63}"
TASK_PATTERN, REFERENCE_PATTERN = rf"^{PLAIN}$", rf"^{PLAIN}(@{PLAIN})?$"
Task = Annotated[str, StringConstraints(pattern=TASK_PATTERN, max_length=64)]
Reference = Annotated[str, StringConstraints(pattern=REFERENCE_PATTERN, max_length=129)]
"""``task``, ``task@version`` or ``task@alias``."""
Pair = Annotated[list[str], Field(min_length=2, max_length=2, fail_fast=True)]
TextList = Annotated[list[str | Pair], Field(min_length=1, fail_fast=True)]
Texts = str | TextList
Seconds = Annotated[float, Field(gt=0, le=3600)]
Threshold = Annotated[
    float,
    Field(
        ge=0,
        le=1,
        strict=True,  # refuses true, which is not a probability
        description="Probability from which a label is given, instead of the adapters' thresholds; 0 never abstains.",
    ),
]
Calibrated = Annotated[
    bool,
    Field(strict=True, description="Calibrated probabilities and intervals; with false, those of the head."),
]


class Closed(BaseModel):
    """A body of the native API: unknown fields are errors."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _keep_one_unknown_field(cls, content: Any) -> Any:
        if not isinstance(content, dict):
            return content
        first = next((name for name in content if name not in cls.model_fields), None)
        return {name: value for name, value in content.items() if name in cls.model_fields or name == first}


class Open(BaseModel):
    """A body of another server's protocol: unknown fields are ignored."""

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
    """The body of every error response."""

    error: Error


# The native API


class ClassifyRequest(Closed):
    """Texts for one task (``model``) or several (``models``); the tasks share tokens and common layers."""

    model: Reference | None = None
    models: Annotated[list[Reference], Field(min_length=1, max_length=128, fail_fast=True)] | None = None
    input: Texts = Field(description="A text, a list of texts, or a list of [text, second text].")
    on_error: Literal["fail", "null"] = Field(
        "fail",
        description="With null, a text that cannot be answered gets an error in its place; the others are answered.",
    )
    timeout_s: Seconds | None = None
    threshold: Threshold | None = None
    calibrated: Calibrated = True


class Usage(Closed):
    """Tokens that were processed."""

    prompt_tokens: int
    total_tokens: int


class ClassifyItem(Open):
    """The answer of one task to one text; the fields depend on the kind of task."""

    index: int
    task: str
    num_classes: int
    label: str | None = None
    labels: list[str] | None = None
    probs: dict[str, float] | None = None
    score: float | None = None
    interval: list[float] | None = None
    abstained: bool | None = None
    none: bool | None = None
    reason: str | None = None
    answer: str | None = None
    start: int | None = None
    end: int | None = None
    error: str | None = None


class ClassifyResponse(Closed):
    """For each text, in order, the answers of all tasks, in order. ``model`` lists the versions that answered."""

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
    calibration: dict[str, Any] | None
    thresholds: dict[str, Any] | None
    none: dict[str, Any] | None
    method: dict[str, Any]
    metric: str
    score: float
    size_bytes: int
    is_resident: bool
    created: str
    warning: str | None


class Refused(Closed):
    """A version that is not served, and why."""

    id: str
    reason: str


class Models(Closed):
    """All versions that are served, and those that are refused."""

    object: Literal["list"]
    backbone: str
    data: list[Model]
    refused: list[Refused]


class Stats(Closed):
    """Throughput of the last ten seconds, load and memory."""

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
    """Health or readiness of the server."""

    status: str


# Management


class AliasRequest(Closed):
    """The version that an alias points to."""

    version: int = Field(ge=1, lt=10**9)


MAX_SHARES = 128


def check_num_shares(shares: Any) -> Any:
    """Reject a mapping with too many entries before they are validated one by one."""
    if isinstance(shares, dict) and len(shares) > MAX_SHARES:
        raise ValueError(f"at most {MAX_SHARES} versions can have a share")
    return shares


class TrafficRequest(Closed):
    """The share of a task's traffic for each version; empty sends all of it to the latest version."""

    shares: Annotated[
        dict[Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,8}$")], Annotated[float, Field(ge=0, le=1)]],
        Field(max_length=MAX_SHARES),
        BeforeValidator(check_num_shares),
    ]


class Managed(Closed):
    """The result of a management request."""

    id: str
    status: str
