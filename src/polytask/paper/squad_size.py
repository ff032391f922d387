"""Figure 5: SQuAD v1.1, F1 against the number of trained parameters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from polytask.paper.contamination import seen_by
from polytask.paper.figures import labelled, legend, panels, save
from polytask.paper.ledger import Entry
from polytask.paper.published import SQUAD_F1
from polytask.paper.selection import NothingToShow, settings
from polytask.paper.size_curve import Row, draw_by_size, scores_by_size
from polytask.paper.wording import apart

IN_PAPER = (
    f"BERT-base, F1 on dev: full fine-tuning {SQUAD_F1['full']}, adapters of size 64 {SQUAD_F1['64']} "
    f"(2% of the parameters), of size 2 {SQUAD_F1['2']} (0.1%)."
)


def rows(entries: Sequence[Entry]) -> list[Row]:
    """One line a method and size, with its F1 in per cent.

    Raises:
        NothingToShow: SQuAD was not run.
    """
    lines = scores_by_size(settings(entries), "squad", "squad")
    if not lines:
        raise NothingToShow("Figure 5 needs SQuAD, and the ledger holds no finished entry of it")
    return lines


def draw(entries: Sequence[Entry], path: str | Path) -> None:
    """One panel.

    Raises:
        NothingToShow: as ``rows``.
    """
    lines = rows(entries)
    drawn, (axes,) = panels(path, 1, width=6)
    draw_by_size(axes, lines)
    labelled(axes, "SQuAD v1.1", "trained parameters, head aside", "F1 on dev × 100")
    legend(drawn)
    save(drawn, path)


def reading(entries: Sequence[Entry]) -> str:
    """The smallest and the largest adapters against full fine-tuning."""
    lines = rows(entries)
    full = next((line for line in lines if line["method"] == "full"), None)
    adapters = [line for line in lines if line["method"] == "adapters"]
    seen = " The backbone saw SQuAD in its own training." if "squad" in seen_by(entries) else ""
    if full is None or not adapters:
        return f"Full fine-tuning and adapters were not both run, so nothing compares.{seen}"
    ends = dict.fromkeys([adapters[0]["size"], adapters[-1]["size"]])
    by_size = {line["size"]: line for line in adapters}
    parts = [f"of size {size} {apart(by_size[size]['score'] - full['score'])}" for size in ends]
    return f"Full fine-tuning reaches an F1 of {full['score']:.1f}; adapters {' and '.join(parts)}.{seen}"
