"""Figure 5: SQuAD v1.1, F1 against the number of trained parameters."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from polytask.paper.contamination import seen_by
from polytask.paper.exhibit import Exhibit
from polytask.paper.published import SQUAD_F1
from polytask.paper.size_curve import COLUMNS, draw_scores_by_size, scores_by_size
from polytask.paper.wording import apart


def squad_rows(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per method and size with its F1 in per cent."""
    return scores_by_size(runs[runs.suite == "squad"])


def draw_squad(rows: pd.DataFrame, path: Path) -> None:
    """One panel: F1 with standard errors against trained parameters."""
    titles = {"squad": "SQuAD v1.1"}
    draw_scores_by_size(rows, path, titles, "parameters trained, without the head", "F1 on dev × 100", 6)


def squad_reading(rows: pd.DataFrame) -> str:
    """The smallest and the largest adapters against full fine-tuning."""
    scores = rows.set_index(["method", "size"]).score
    seen = " The backbone saw SQuAD in its own training." if "squad" in seen_by(rows.entry) else ""
    if not {"full", "adapters"} <= set(rows.method):
        return f"Full fine-tuning and adapters were not both run, so nothing compares.{seen}"
    full, sizes = scores["full", 0], scores["adapters"].index
    ends = dict.fromkeys((sizes.min(), sizes.max()))
    parts = [f"of size {size} {apart(scores['adapters', size] - full)}" for size in ends]
    return f"Full fine-tuning reaches an F1 of {full:.1f}; adapters {' and '.join(parts)}.{seen}"


EXHIBIT = Exhibit(
    "squad",
    "Figure 5: SQuAD against trained parameters",
    f"BERT-base, F1 on dev: full fine-tuning {SQUAD_F1['full']}, adapters of size 64 {SQUAD_F1['64']} "
    f"(2% of the parameters), of size 2 {SQUAD_F1['2']} (0.1%).",
    "Figure 5 needs SQuAD, and the results hold no finished run of it",
    COLUMNS,
    squad_rows,
    squad_reading,
    draw_squad,
)
