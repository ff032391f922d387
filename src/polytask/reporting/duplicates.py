"""Rows that occur twice, among these rows and in the training rows: a score on them says little about new texts."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from polytask.data.task import Kind, Rows, Target
from polytask.drawing.table import Table, text_table
from polytask.evaluation.metrics import score
from polytask.inference.inputs import Text
from polytask.reporting.answered import Answered
from polytask.reporting.page import Section, Tile
from polytask.reporting.wording import cut, listed, metric_in_words, named, number, percent, place, row_or_line
from polytask.wording import counted

MAX_ROWS = 25
UNKNOWN = "Training rows were not given, so it is not known whether they are among these rows."
_WORDS = re.compile(r"\w+")


@dataclass(frozen=True)
class Duplicate:
    """A row that occurs elsewhere.

    Attributes:
        row: its index.
        other: the index of the first row that is the same, among the training rows or earlier among these.
        is_exact: whether the texts are the same to the character; else without case, punctuation and spaces.
        has_same_target: whether the targets are the same.
    """

    row: int
    other: int
    is_exact: bool
    has_same_target: bool


def duplicate_section(answered: Answered) -> Section:
    """Duplicates among these rows and, if the training rows are known, of training rows."""
    within = repeated(answered.rows)
    repeats = f"{counted(len(within), 'row')} {'repeats' if len(within) == 1 else 'repeat'} an earlier one."
    repeats = repeats if within else "No row repeats an earlier one."
    table = _table(answered, within, answered.rows, "", "Among these rows")
    data: dict[str, Any] = {"among_these": summary(within), "in_training": None}
    if answered.train is None:
        return Section("duplicates", "Duplicates", repeats, tables=(table,), remarks=(UNKNOWN,), data=data)
    across = shared(answered.train, answered.rows)
    value = score_without(answered, across)
    words = metric_in_words(answered.metric, answered.labels)
    said = f"without them the {words} is {value:.3f}" if value is not None and across else ""
    known = f"{counted(len(across), 'row')} ({percent(len(across) / len(answered))})" if across else "No row"
    verb = "are" if len(across) > 1 else "is"
    lead = f"{known} {verb} also in the training rows{said and '; '}{said}. {repeats}"
    return Section(
        "duplicates",
        "Duplicates",
        lead,
        (Tile(f"{len(across):,}", "rows are also in the training rows", said),),
        tables=(_table(answered, across, answered.train, "training ", "Also in the training rows"), table),
        data={**data, "in_training": summary(across), "score_without": value},
    )


def summary(found: Sequence[Duplicate]) -> dict[str, int]:
    """How many rows, how many to the character, and how many with another target."""
    return {
        "rows": len(found),
        "exact": sum(own.is_exact for own in found),
        "other_target": sum(not own.has_same_target for own in found),
    }


def normalized(text: Text) -> str | tuple[str, ...]:
    """A text, or both of a pair, without case, punctuation and spaces; one without any letter or digit as it is."""
    if not isinstance(text, str):
        return tuple(str(normalized(own)) for own in text)
    return " ".join(_WORDS.findall(unicodedata.normalize("NFKC", text).casefold())) or text.strip()


def repeated(rows: Rows) -> list[Duplicate]:
    """Rows that are the same as an earlier one."""
    texts = _texts(rows)
    first: dict[object, int] = {}
    others = [first.setdefault(normalized(text), number) for number, text in enumerate(texts)]
    return [_duplicate(rows, row, rows, other) for row, other in enumerate(others) if other != row]


def shared(train: Rows, rows: Rows) -> list[Duplicate]:
    """Rows that are the same as a training row."""
    exact: dict[object, int] = {}
    loose: dict[object, int] = {}
    for at, text in enumerate(_texts(train)):
        exact.setdefault(text, at)
        loose.setdefault(normalized(text), at)
    others = [exact.get(text, loose.get(normalized(text))) for text in _texts(rows)]
    return [_duplicate(rows, row, train, other) for row, other in enumerate(others) if other is not None]


def score_without(answered: Answered, found: Sequence[Duplicate]) -> float | None:
    """The score of the rows that are not duplicates; None if all are."""
    out = {own.row for own in found}
    kept = [row for row in range(len(answered)) if row not in out]
    if not kept:
        return None
    targets, predictions = ([column[row] for row in kept] for column in (answered.targets, answered.predictions))
    return score(answered.metric, answered.kind, targets, predictions, num_labels=len(answered.labels))


def _duplicate(rows: Rows, row: int, others: Rows, other: int) -> Duplicate:
    one, two = rows.take([row]), others.take([other])
    return Duplicate(row, other, _texts(one) == _texts(two), one.targets == two.targets)


def _texts(rows: Rows) -> list[Text]:
    return list(rows.texts) if rows.pairs is None else list(zip(rows.texts, rows.pairs))


def _table(answered: Answered, found: Sequence[Duplicate], others: Rows, which: str, title: str) -> Table:
    """The duplicates, those with another target first."""
    assert others.targets is not None, "rows of a report have targets"
    rows = []
    for own in sorted(found, key=lambda own: own.has_same_target)[:MAX_ROWS]:
        same = f"{which}{place(others, own.other)}{'' if own.is_exact else ', normalized'}"
        targets = (answered.targets[own.row], others.targets[own.other])
        spelled = [target_in_words(answered.kind, answered.labels, target) for target in targets]
        shown = (f"{number(answered.rows, own.row):,}", cut(answered.rows.texts[own.row], 160), same, *spelled)
        rows.append(shown)
    more = f", {MAX_ROWS} of {len(found):,}" if len(found) > MAX_ROWS else ""
    headings = (row_or_line(answered.rows), "text", "same as", "label", "label there")
    return text_table(title + more, headings, rows, (0,))


def target_in_words(kind: Kind, labels: Sequence[str], target: Target) -> str:
    """A target as names of labels, a number or the first correct answer."""
    if kind == "classification":
        return named(labels[target], 28)
    if kind == "multilabel":
        return listed([named(labels[index], 28) for index in target], 4) or "none"
    return f"{target:.4g}" if kind == "regression" else cut(target[0].text, 60)
