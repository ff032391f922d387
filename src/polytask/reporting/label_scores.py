"""The scores of each label, and how they depend on the number of rows that the label has."""

from __future__ import annotations

from typing import Any

from polytask.drawing.table import Table, text_table
from polytask.evaluation.metrics import indicators
from polytask.evaluation.per_label import LabelScores, report
from polytask.evaluation.thresholds import Thresholds
from polytask.reporting.answered import Answered
from polytask.reporting.drawings import draw_frequency
from polytask.reporting.page import Picture, Section, Tile
from polytask.reporting.wording import named

MIN_LABELS_DRAWN = 4
FOLDED_FROM = 16
"""With at least this many labels their table is folded away."""


def label_section(answered: Answered) -> Section | None:
    """Precision, recall, F1 and average precision of each label, and F1 against frequency."""
    found = report(answered.kind, answered.labels, answered.targets, answered.predictions)
    if found is None or not any(own.rows for own in found.labels):
        return None
    ranked = average_precisions(answered)
    counts, cuts = answered.label_counts, answered.decision.thresholds
    worst = min((own for own in found.labels if own.rows), key=lambda own: own.f1)
    lead = f"The lowest F1 is {worst.f1:.3f}, of {named(worst.label)} with {worst.rows:,} rows here."
    return Section(
        "labels",
        "Labels",
        lead,
        (Tile(f"{len(answered.labels):,}", "labels", f"lowest F1 {worst.f1:.2f}: {named(worst.label, 24)}"),),
        _pictures(answered, found.labels),
        (_table(found.labels, ranked, counts, cuts),),
        data={
            "labels": [
                {
                    "label": own.label,
                    "precision": own.precision,
                    "recall": own.recall,
                    "f1": own.f1,
                    "average_precision": ranked[own.label],
                    "rows": own.rows,
                    "training_rows": None if counts is None else counts[own.label],
                    "threshold": None if cuts is None else cuts.values[at],
                }
                for at, own in enumerate(found.labels)
            ]
        },
    )


def average_precisions(answered: Answered) -> dict[str, float | None]:
    """The area under each label's precision–recall curve; None of a label that no row has."""
    from sklearn.metrics import average_precision_score

    truth = indicators(answered.targets, len(answered.labels))
    return {
        label: float(average_precision_score(truth[:, at], [row[at] for row in answered.probs]))
        if truth[:, at].any()
        else None
        for at, label in enumerate(answered.labels)
    }


def _pictures(answered: Answered, labels: tuple[LabelScores, ...]) -> tuple[Picture, ...]:
    seen = [own for own in labels if own.rows]
    if len(seen) < MIN_LABELS_DRAWN:
        return ()
    counts = answered.label_counts
    rows = [own.rows if counts is None else counts[own.label] for own in seen]
    x = "rows with the label here" if counts is None else "training rows with the label"
    svg = draw_frequency("frequency", [own.label for own in seen], rows, [own.f1 for own in seen], x)
    return (Picture(svg, "F1 of each label by its frequency"),)


def _table(
    labels: tuple[LabelScores, ...],
    ranked: dict[str, float | None],
    counts: dict[str, int] | None,
    thresholds: Thresholds | None,
) -> Table:
    headings: tuple[str, ...] = ("label", "precision", "recall", "F1", "average precision", "rows", "training rows")
    headings += () if thresholds is None else ("answered from",)
    cuts = {} if thresholds is None else _cuts(labels, thresholds)
    rows: list[tuple[str, ...]] = []
    for own in sorted(labels, key=lambda own: own.f1):
        shares: list[Any] = [own.precision, own.recall, own.f1, ranked[own.label]]
        shown = ("–" if share is None else f"{share:.3f}" for share in shares)
        trained = "–" if counts is None else f"{counts[own.label]:,}"
        rows.append((named(own.label), *shown, f"{own.rows:,}", trained, *cuts.get(own.label, ())))
    summary = f"All {len(labels):,} labels, lowest F1 first" if len(labels) >= FOLDED_FROM else ""
    return text_table("", headings, rows, range(1, len(headings)), summary)


def _cuts(labels: tuple[LabelScores, ...], thresholds: Thresholds) -> dict[str, tuple[str]]:
    """The probability from which each label is given."""
    values = zip(labels, thresholds.values, strict=True)
    return {own.label: ("never" if value is None else f"{value:.3f}",) for own, value in values}
