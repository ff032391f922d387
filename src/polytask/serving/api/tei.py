"""``POST /predict`` as of Text Embeddings Inference: labels with their probabilities, the likeliest first.

A list of one or two strings is one text or one pair, as there; a batch is a list of such lists. A regression answers
with the label ``score``, a span with its text.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Request
from fastapi.responses import JSONResponse

from polytask.inference.prediction import Prediction
from polytask.serving.api.access import answered, as_json, ok, router, service_of
from polytask.serving.faults import Fault
from polytask.serving.schemas import Reference, TeiModelRequest, TeiRequest, TeiScore
from polytask.serving.service import Ask

routes = router("infer", "Text Embeddings Inference")
Answers = list[TeiScore] | list[list[TeiScore]]


@routes.post("/predict", responses=ok(Answers))
async def predict(request: Request, body: TeiModelRequest) -> JSONResponse:
    """Answer with the task that ``model`` names, or the only one there is."""
    tasks = service_of(request).catalog.tasks()
    if body.model is None and len(tasks) != 1:
        raise Fault(
            "malformed", f"name an adapter: there are {len(tasks)}. Or use /adapters/NAME/predict", param="model"
        )
    return await _predict(request, body, body.model or tasks[0])


@routes.post("/adapters/{name}/predict", responses=ok(Answers))
async def predict_with(request: Request, body: TeiRequest, name: Annotated[Reference, Path()]) -> JSONResponse:
    """Answer with the task of this name."""
    return await _predict(request, body, name)


async def _predict(request: Request, body: TeiRequest, name: str) -> JSONResponse:
    batch = [given] if (given := one_of(body.inputs)) is not None else list(map(one_of, body.inputs))
    found = await answered(request, [Ask(text, (name,), f"inputs.{at}") for at, text in enumerate(batch)])
    scores = [ranked(row[0].answer) for row in found.rows]
    return as_json(scores if given is None else scores[0])


def one_of(inputs: Any) -> Any:
    """A text or a pair; None of a batch."""
    if isinstance(inputs, str):
        return inputs
    if all(isinstance(part, str) for part in inputs):
        return inputs[0] if len(inputs) == 1 else tuple(inputs)
    return None


def ranked(answer: Any) -> list[dict[str, Any]]:
    """Labels with their probabilities."""
    assert isinstance(answer, Prediction), "errors were raised"
    if answer.probs is None:
        return [{"label": answer.answer if answer.answer is not None else "score", "score": answer.score}]
    best = sorted(answer.probs.items(), key=lambda pair: -pair[1])
    return [{"label": label, "score": prob} for label, prob in best]
