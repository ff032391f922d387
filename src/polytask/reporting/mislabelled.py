"""Rows whose own label looks wrong, by confident learning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from polytask.drawing.table import Table, text_table
from polytask.evaluation.confident_learning import LabelErrors, find_label_errors
from polytask.reporting.answered import Answered
from polytask.reporting.label_scores import average_precisions
from polytask.reporting.page import Section, Tile
from polytask.reporting.wording import cut, named, number, percent, row_or_line, where
from polytask.wording import counted

MAX_ROWS = 25
CAUTION = (
    "Confident learning (Northcutt et al. 2021), with the adapter as the judge: an adapter that is often wrong "
    "suspects rows that are right. Read them before you change them."
)


MIN_AVERAGE_PRECISION = 0.5
"""Of several labels, those that the adapter ranks worse are not judged: it would doubt every row that has them."""


@dataclass(frozen=True)
class Doubt:
    """A row that contradicts its label; ``row`` is counted from 1."""

    row: int
    label: str
    probability: float
    likely: str
    likely_probability: float

    @property
    def margin(self) -> float:
        """How clear the contradiction is."""
        return self.likely_probability - self.probability


def mislabelled_section(answered: Answered) -> Section:
    """Suspect rows, those with the clearest contradiction first."""
    remarks = [CAUTION]
    if answered.kind == "classification":
        found, share = single_label_errors(answered)
    else:
        judged = judged_labels(answered)
        found, share = several_label_errors(answered, judged)
        left_out = len(answered.labels) - len(judged)
        remarks += [f"{counted(left_out, 'label')} left out, which the adapter does not tell well."] if left_out else []
    clearest = found[:MAX_ROWS]
    num_rows = len({own.row for own in found})
    contradicts = "contradicts its label" if num_rows == 1 else "contradict their labels"
    lead = f"{counted(num_rows, 'row')} of {len(answered):,} clearly {contradicts}."
    tile = Tile(f"{num_rows:,}", "rows look mislabelled", f"{percent(num_rows / len(answered))} of the rows")
    return Section(
        "mislabelled",
        "Labels that look wrong",
        lead if found else "No row clearly contradicts its label.",
        (tile,),
        tables=(_table(answered, clearest),),
        remarks=tuple(remarks),
        data={
            "rows": num_rows,
            "estimated_share": share,
            "clearest": [{**asdict(own), **where(answered.rows, own.row - 1)} for own in clearest],
        },
    )


def single_label_errors(answered: Answered) -> tuple[list[Doubt], float | None]:
    """Doubts about a classification, and the estimated share of wrong labels."""
    errors = find_label_errors(answered.probs, answered.targets)
    names, probs = answered.labels, answered.probs
    found = [
        Doubt(own.row + 1, names[own.given], probs[own.row][own.given], names[own.likely], probs[own.row][own.likely])
        for own in errors.suspects
    ]
    return found, errors.share


def judged_labels(answered: Answered) -> list[int]:
    """The labels with an average precision of at least ``MIN_AVERAGE_PRECISION``."""
    ranked = average_precisions(answered)
    return [at for at, label in enumerate(answered.labels) if (ranked[label] or 0.0) >= MIN_AVERAGE_PRECISION]


def several_label_errors(answered: Answered, judged: Sequence[int]) -> tuple[list[Doubt], float | None]:
    """Doubts about each of these labels by itself, and the mean estimated share of wrong decisions."""
    found, shares = [], []
    for at in judged:
        label = answered.labels[at]
        errors = _errors_of_label(answered, at)
        shares.append(errors.share)
        names = (f"not {label}", label)
        for own in errors.suspects:
            probs = (1 - answered.probs[own.row][at], answered.probs[own.row][at])
            found.append(Doubt(own.row + 1, names[own.given], probs[own.given], names[own.likely], probs[own.likely]))
    return sorted(found, key=lambda own: -own.margin), (sum(shares) / len(shares) if shares else None)


def _errors_of_label(answered: Answered, label: int) -> LabelErrors:
    probs = [(1 - row[label], row[label]) for row in answered.probs]
    return find_label_errors(probs, [int(label in target) for target in answered.targets])


def _table(answered: Answered, doubts: list[Doubt]) -> Table:
    rows = [
        (
            f"{number(answered.rows, own.row - 1):,}",
            _text(answered, own.row - 1),
            named(own.label, 28),
            f"{own.probability:.2f}",
            named(own.likely, 28),
            f"{own.likely_probability:.2f}",
        )
        for own in doubts
    ]
    headings = (row_or_line(answered.rows), "text", "label", "probability", "looks like", "probability")
    return text_table("", headings, rows, (0, 3, 5))


def _text(answered: Answered, row: int) -> str:
    text = answered.texts[row]
    return " · ".join(cut(own, 220) for own in ((text,) if isinstance(text, str) else text))
