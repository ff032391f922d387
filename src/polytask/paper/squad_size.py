"""Figure 5: SQuAD v1.1, F1 against the number of trained parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from polytask.paper.contamination import seen_by
from polytask.paper.exhibit import Entries, Exhibit, Rows
from polytask.paper.figures import draw_panels, label_axes
from polytask.paper.published import SQUAD_F1
from polytask.paper.selection import NothingToShow
from polytask.paper.size_curve import as_rows, draw_scores_by_size, scores_by_size
from polytask.paper.wording import apart


def squad_rows(entries: Entries) -> Rows:
    """One row per method and size with its F1 in per cent."""
    scores = scores_by_size([entry for entry in entries if entry.trial.suite == "squad"])
    if scores.empty:
        raise NothingToShow("Figure 5 needs SQuAD, and the results hold no finished run of it")
    return as_rows(scores)


def draw_squad(entries: Entries, path: str | Path) -> None:
    """One panel: F1 with standard errors against trained parameters."""

    def draw_one(axes: Any, title: str, rows: Any) -> None:
        draw_scores_by_size(axes, rows)
        label_axes(axes, title, "parameters trained, without the head", "F1 on dev × 100")

    draw_panels(path, {"SQuAD v1.1": squad_rows(entries)}, draw_one, width=6)


def squad_reading(entries: Entries) -> str:
    """The smallest and the largest adapters against full fine-tuning."""
    scores = {(row["method"], row["size"]): row["score"] for row in squad_rows(entries)}
    full, sizes = scores.get(("full", None)), [size for method, size in scores if method == "adapters"]
    seen = " The backbone saw SQuAD in its own training." if "squad" in seen_by(entries) else ""
    if full is None or not sizes:
        return f"Full fine-tuning and adapters were not both run, so nothing compares.{seen}"
    ends = dict.fromkeys((min(sizes), max(sizes)))
    parts = [f"of size {size} {apart(scores['adapters', size] - full)}" for size in ends]
    return f"Full fine-tuning reaches an F1 of {full:.1f}; adapters {' and '.join(parts)}.{seen}"


EXHIBIT = Exhibit(
    "squad",
    "Figure 5: SQuAD against trained parameters",
    f"BERT-base, F1 on dev: full fine-tuning {SQUAD_F1['full']}, adapters of size 64 {SQUAD_F1['64']} "
    f"(2% of the parameters), of size 2 {SQUAD_F1['2']} (0.1%).",
    squad_rows,
    squad_reading,
    draw_squad,
)
