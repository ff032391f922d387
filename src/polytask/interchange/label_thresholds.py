"""Adds label thresholds to exported files, because other libraries store scores only."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from polytask.adapters.header import Header
from polytask.evaluation.decision import decision_of
from polytask.interchange.separate_head import SETTINGS

HOLDS_FROM = "holds_from"
"""The key in ``polytask.json`` and in the metadata of an ONNX graph."""

_RULES = {
    "multilabel": "A label holds from this probability on:",
    "classification": "The likeliest label holds from this probability on; below it the adapter abstains:",
}


def label_thresholds_of(header: Header) -> list[float | None] | None:
    """The least calibrated probability at which each label is given, None for a label that never is.

    They are the adapter's thresholds. For a multi-label adapter without thresholds, they are the calibrated values of
    0.5. A classification without thresholds and a regression have none.
    """
    kind, labels = header.head.kind, header.head.labels
    decision = decision_of(kind, labels, header.decides)
    if decision.thresholds is not None:
        return list(decision.thresholds.values)
    if kind != "multilabel":
        return None
    own = decision.calibration
    return [0.5] * len(labels) if own is None else [*own.cuts(len(labels))]


def write_label_thresholds(folder: Path, header: Header, thresholds: Sequence[float | None]) -> None:
    """Add thresholds to the README of an export and to its ``polytask.json``."""
    pairs = zip(header.head.labels, thresholds)
    rows = [f"| {label} | {'never' if least is None else f'{least:.6g}'} |" for label, least in pairs]
    table = "\n".join(["| label | holds from |", "|---|---|", *rows])
    with (folder / "README.md").open("a", encoding="utf-8") as readme:
        readme.write(f"\n{_RULES[header.head.kind]}\n\n{table}\n")
    path = folder / SETTINGS
    settings = {**json.loads(path.read_text(encoding="utf-8")), HOLDS_FROM: list(thresholds)}
    path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
