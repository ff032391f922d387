"""``predict --top-k``: prints the likeliest labels of each answer with their probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from polytask.errors import DataError, PolytaskError

if TYPE_CHECKING:
    from polytask.adapters.store import Entry
    from polytask.inference.prediction import Prediction


def check_top_k(top_k: int | None, output: str | None, entries: Mapping[str, Entry]) -> None:
    """Refuse ``--top-k`` if it does not apply.

    Raises:
        PolytaskError: the number is less than one, a table is to be written, or a task has no labels.
    """
    if top_k is None:
        return
    if top_k < 1:
        raise PolytaskError(f"--top-k {top_k} asks for no labels. Give a number from 1")
    if output is not None:
        fix = "Leave it out, or print JSON lines: --json > answers.jsonl"
        raise DataError("--top-k is for answers that are printed", file=output, fix=fix)
    for reference, entry in entries.items():
        if not entry.labels:
            raise PolytaskError(
                f"{reference} is a task of the kind {entry.header.head.kind}, which has no labels to rank"
            )


def likeliest(prediction: Prediction, top_k: int) -> dict[str, float]:
    """The ``top_k`` most probable labels, the most probable first."""
    probs = prediction.probs or {}
    return {label: probs[label] for label in sorted(probs, key=probs.__getitem__, reverse=True)[:top_k]}


def as_json_object(prediction: Prediction, top_k: int | None = None) -> dict[str, Any]:
    """A prediction's JSON; with ``top_k``, only the probabilities of the likeliest labels."""
    found = prediction.to_json()
    return {**found, "probs": likeliest(prediction, top_k)} if top_k is not None and "probs" in found else found
