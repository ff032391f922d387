"""The Open Inference Protocol, version 2 (KServe, Triton): a task is a model, texts are BYTES tensors.

The request's ``parameters`` may have ``threshold`` and ``calibrated``. Where an adapter abstains, ``abstained`` is true
and ``label`` is empty. A calibrated regression has a tensor ``interval`` of shape ``[n, 2]``.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Request
from fastapi.responses import JSONResponse

from polytask import __version__
from polytask.adapters.store import Entry
from polytask.evaluation.decision import DecisionOptions
from polytask.inference.prediction import Prediction
from polytask.serving.admission import Query
from polytask.serving.api.access import as_json, ok, router, run_queries, service_of
from polytask.serving.api.manage import load, unload
from polytask.serving.dialect_schemas import (
    IndexEntry,
    IndexRequest,
    InferParameters,
    InferRequest,
    InferResponse,
    ModelMetadata,
    ModelReady,
    ServerMetadata,
)
from polytask.serving.faults import Fault
from polytask.serving.schemas import Managed, Reference, Task

routes = router("infer", "Open Inference Protocol")
manage_routes = router("manage", "Open Inference Protocol")
Name = Annotated[Reference, Path()]
Version = Annotated[int, Path(ge=1, lt=10**9)]
PROBS, BYTES, SCORE, SPAN = "FP32", "BYTES", "FP32", "INT64"


@routes.get("/v2", responses=ok(ServerMetadata))
async def server() -> JSONResponse:
    """Server metadata."""
    return as_json({"name": "polytask", "version": __version__, "extensions": ["model_repository"]})


@routes.get("/v2/models/{name}", responses=ok(ModelMetadata))
async def metadata(request: Request, name: Name) -> JSONResponse:
    """Inputs and outputs of a task."""
    return as_json(metadata_of(request, service_of(request).catalog.resolve(name)))


@routes.get("/v2/models/{name}/versions/{version}", responses=ok(ModelMetadata))
async def version_metadata(request: Request, name: Name, version: Version) -> JSONResponse:
    """Inputs and outputs of a version."""
    return as_json(metadata_of(request, service_of(request).catalog.resolve(of_version(name, version))))


@routes.get("/v2/models/{name}/ready", responses=ok(ModelReady))
async def ready(request: Request, name: Name) -> JSONResponse:
    """Whether a task is served."""
    service_of(request).catalog.resolve(name)
    return as_json({"name": name, "ready": True})


@routes.get("/v2/models/{name}/versions/{version}/ready", responses=ok(ModelReady))
async def version_ready(request: Request, name: Name, version: Version) -> JSONResponse:
    """Whether a version is served."""
    return await ready(request, of_version(name, version))


@routes.post("/v2/models/{name}/infer", responses=ok(InferResponse))
async def infer(request: Request, body: InferRequest, name: Name) -> JSONResponse:
    """Run a task on a tensor of texts."""
    given = body.parameters or InferParameters()
    options = DecisionOptions(given.calibrated, threshold=given.threshold)
    found = await run_queries(request, [Query(text, (name,), "inputs", options) for text in texts_of(body)])
    entry = found.entries[0]
    predictions = [row[0].answer for row in found.rows]
    outputs = tensors_of(entry, predictions)
    own = {"model_name": entry.task, "model_version": str(entry.version), "outputs": outputs}
    return as_json(own if body.id is None else {**own, "id": body.id})


@routes.post("/v2/models/{name}/versions/{version}/infer", responses=ok(InferResponse))
async def version_infer(request: Request, body: InferRequest, name: Name, version: Version) -> JSONResponse:
    """Run this version on a tensor of texts."""
    return await infer(request, body, of_version(name, version))


@routes.post("/v2/repository/index", responses=ok(list[IndexEntry]))
async def index(request: Request, body: IndexRequest | None = None) -> JSONResponse:
    """All versions, including those that are refused."""
    catalog = service_of(request).catalog
    found = [index_entry(str(entry), "READY", "") for entry in catalog.entries()]
    if body is None or not body.ready:
        found += [index_entry(name, "UNAVAILABLE", refusal.reason) for name, refusal in catalog.refusals().items()]
    return as_json(found)


@manage_routes.post("/v2/repository/models/{name}/load", responses=ok(Managed))
async def repository_load(request: Request, name: Name) -> JSONResponse:
    """Serve a task or version, and load it into memory."""
    return await load(request, name)


@manage_routes.post("/v2/repository/models/{name}/unload", responses=ok(Managed))
async def repository_unload(request: Request, name: Name) -> JSONResponse:
    """Stop serving a task or version."""
    return await unload(request, name)


def of_version(name: Task, version: int) -> str:
    """``task@version``."""
    if "@" in name:
        raise Fault("malformed", "the version is given twice, in the name and in the path", param="name")
    return f"{name}@{version}"


def index_entry(name: str, state: str, reason: str) -> dict[str, str]:
    """An entry of the repository's index."""
    task, _, version = name.partition("@")
    return {"name": task, "version": version, "state": state, "reason": reason}


def texts_of(body: InferRequest) -> list[Any]:
    """The texts, or pairs, in the tensors ``text`` and ``text_pair``.

    Raises:
        Fault: a tensor is missing or unknown, or the shapes do not match.
    """
    columns: dict[str, list[str]] = {}
    for tensor in body.inputs:
        flat = [x for row in tensor.data for x in ([row] if isinstance(row, str) else row)]
        is_column = len(tensor.shape) == 1 or tensor.shape[1] == 1
        if not is_column or tensor.shape[0] != len(flat):
            problem = f"the tensor {tensor.name!r} has {len(flat)} texts and the shape {tensor.shape}"
            raise Fault("malformed", f"{problem}; expected [n] or [n, 1]", param="inputs")
        if tensor.name in columns:
            raise Fault("malformed", f"there are two tensors {tensor.name!r}", param="inputs")
        columns[tensor.name] = flat
    first = columns.pop("text", None)
    second = columns.pop("text_pair", None)
    if first is None or columns or (second is not None and len(second) != len(first)):
        raise Fault(
            "malformed", "expected a tensor text and, for pairs, a tensor text_pair of the same length", param="inputs"
        )
    if not first:
        raise Fault("malformed", "the tensor text is empty", param="inputs")
    return list(first) if second is None else list(zip(first, second))


def tensors_of(entry: Entry, answers: list[Any]) -> list[dict[str, Any]]:
    """The answers as tensors, depending on the kind of task."""
    assert all(isinstance(answer, Prediction) for answer in answers), "errors are raised before"
    n, kind, k = len(answers), entry.header.head.kind, len(entry.labels)
    if kind == "regression":
        bounds = [bound for a in answers for bound in a.interval or ()]
        intervals = [tensor("interval", SCORE, [n, 2], bounds)] if bounds else []
        return [tensor("score", SCORE, [n], [a.score for a in answers]), *intervals]
    if kind == "span":
        own = [tensor("answer", BYTES, [n], [a.answer for a in answers])]
        own += [tensor(name, SPAN, [n], [getattr(a, name) for a in answers]) for name in ("start", "end")]
        return [*own, tensor("score", SCORE, [n], [a.score for a in answers])]
    probs = tensor("probs", PROBS, [n, k], [prob for a in answers for prob in a.probs.values()])
    if kind == "multilabel":
        return [tensor("holds", "BOOL", [n, k], [label in a.labels for a in answers for label in entry.labels]), probs]
    label = tensor("label", BYTES, [n], [a.label or "" for a in answers])
    return [label, probs, tensor("abstained", "BOOL", [n], [a.abstained for a in answers])]


def tensor(name: str, datatype: str, shape: list[int], data: list[Any]) -> dict[str, Any]:
    """An output tensor of the protocol."""
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


def metadata_of(request: Request, entry: Entry) -> dict[str, Any]:
    """Inputs and outputs of a version; -1 stands for any number of texts."""
    versions = [str(e.version) for e in service_of(request).catalog.entries() if e.task == entry.task]
    inputs = ["text"] if entry.header.takes in (None, "single") else ["text", "text_pair"]
    interval = (0.0, 0.0) if entry.header.calibration else None
    probs = dict.fromkeys(entry.labels, 0.0)
    empty = Prediction(entry.task, label="", labels=(), probs=probs, answer="", interval=interval)
    outputs = [{**t, "shape": [-1, *t["shape"][1:]]} for t in tensors_of(entry, [empty])]
    return {
        "name": entry.task,
        "versions": versions,
        "platform": "polytask",
        "inputs": [{"name": name, "datatype": BYTES, "shape": [-1]} for name in inputs],
        "outputs": [{name: value for name, value in output.items() if name != "data"} for output in outputs],
        "parameters": {"labels": list(entry.labels), "kind": entry.header.head.kind, "digest": entry.digest},
    }
