"""``POST /predict`` as in Text Embeddings Inference: labels with their probabilities, most likely first.

As in TEI, a list of one or two strings is one text or one pair, and a batch is a list of such lists. Regression answers
with the label ``score``, question answering with the text of the span.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Request
from fastapi.responses import JSONResponse

from polytask.evaluation.decision import DecisionOptions
from polytask.inference.prediction import Prediction
from polytask.serving.admission import Query
from polytask.serving.api.access import as_json, ok, router, run_queries, service_of
from polytask.serving.dialect_schemas import TeiModelRequest, TeiRequest, TeiScore
from polytask.serving.faults import Fault
from polytask.serving.schemas import Reference

routes = router("infer", "Text Embeddings Inference")
Answers = list[TeiScore] | list[list[TeiScore]]


@routes.post("/predict", responses=ok(Answers))
async def predict(request: Request, body: TeiModelRequest) -> JSONResponse:
    """Run the task named by ``model``, or the only task of the store."""
    tasks = service_of(request).catalog.tasks()
    if body.model is None and len(tasks) != 1:
        raise Fault(
            "malformed", f"there are {len(tasks)} adapters: name one, or use /adapters/NAME/predict", param="model"
        )
    return await _predict(request, body, body.model or tasks[0])


@routes.post("/adapters/{name}/predict", responses=ok(Answers))
async def predict_with(request: Request, body: TeiRequest, name: Annotated[Reference, Path()]) -> JSONResponse:
    """Run the task of this name."""
    return await _predict(request, body, name)


async def _predict(request: Request, body: TeiRequest, name: str) -> JSONResponse:
    batch = [single] if (single := text_of(body.inputs)) is not None else list(map(text_of, body.inputs))
    options = DecisionOptions(body.calibrated)
    queries = [Query(text, (name,), f"inputs.{at}", options) for at, text in enumerate(batch)]
    found = await run_queries(request, queries)
    scores = [ranked(row[0].answer) for row in found.rows]
    return as_json(scores if single is None else scores[0])


def text_of(inputs: Any) -> Any:
    """A text or a pair; None for a batch."""
    if isinstance(inputs, str):
        return inputs
    if all(isinstance(part, str) for part in inputs):
        return inputs[0] if len(inputs) == 1 else tuple(inputs)
    return None


def ranked(answer: Any) -> list[dict[str, Any]]:
    """Labels with their probabilities, most likely first."""
    assert isinstance(answer, Prediction), "errors are raised before"
    if answer.probs is None:
        return [{"label": answer.answer if answer.answer is not None else "score", "score": answer.score}]
    best = sorted(answer.probs.items(), key=lambda pair: -pair[1])
    return [{"label": label, "score": prob} for label, prob in best]
