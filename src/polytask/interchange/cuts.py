"""From which probability on a label holds, for files of other libraries, which know scores only."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from polytask.adapters.header import Header
from polytask.evaluation.decision import decision_of
from polytask.interchange.beside import SETTINGS

HOLDS_FROM = "holds_from"
"""The key in ``polytask.json`` and in the metadata of a graph."""

_RULES = {
    "multilabel": "A label holds from this probability on:",
    "classification": "The likeliest label holds from this probability on; below it the adapter abstains:",
}


def cuts_of(header: Header) -> list[float | None] | None:
    """The calibrated probability from which each label holds, None where it never does.

    These are the adapter's thresholds; of several labels without thresholds, what was 0.5 before calibration. There are
    none where the likeliest label always holds, and without labels.
    """
    kind, labels = header.head.kind, header.head.labels
    decision = decision_of(kind, labels, header.decides)
    if decision.thresholds is not None:
        return list(decision.thresholds.values)
    if kind != "multilabel":
        return None
    own = decision.calibration
    return [0.5] * len(labels) if own is None else [*own.cuts(len(labels))]


def name_cuts(folder: Path, header: Header, cuts: Sequence[float | None]) -> None:
    """Add the cuts to the README of an export, and to its ``polytask.json``."""
    rows = [f"| {label} | {'never' if cut is None else f'{cut:.6g}'} |" for label, cut in zip(header.head.labels, cuts)]
    table = "\n".join(["| label | holds from |", "|---|---|", *rows])
    with (folder / "README.md").open("a", encoding="utf-8") as readme:
        readme.write(f"\n{_RULES[header.head.kind]}\n\n{table}\n")
    path = folder / SETTINGS
    settings = {**json.loads(path.read_text(encoding="utf-8")), HOLDS_FROM: list(cuts)}
    path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
