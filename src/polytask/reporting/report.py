"""``pt.report``: how an adapter answers labelled rows, as one HTML page and as figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any

from polytask.adapters.store import Entry, Store
from polytask.backbones.backbone import Backbone
from polytask.data.in_memory import called
from polytask.data.read import rows_for, table_of
from polytask.data.task import Kind, Rows
from polytask.drawing.figures import check_drawing
from polytask.errors import DataError, PolytaskError
from polytask.evaluation.none_of_these import label_of_none
from polytask.files import write_text
from polytask.inference.predict import MultiTask
from polytask.reporting.answered import Answered, Progress, answer, no_progress
from polytask.reporting.certainty import calibration_section, coverage_section, precision_recall_section
from polytask.reporting.confusions import confusion_section
from polytask.reporting.duplicates import duplicate_section
from polytask.reporting.groups import length_section, question_word_section
from polytask.reporting.label_scores import label_section
from polytask.reporting.mislabelled import mislabelled_section
from polytask.reporting.mistakes import mistake_section, wrong_answer_section
from polytask.reporting.none_of_these import none_section
from polytask.reporting.page import Section, render_page
from polytask.reporting.residuals import interval_section, residual_section
from polytask.reporting.scores import score_section
from polytask.reporting.wording import cut

SECTIONS: Mapping[Kind, tuple[Callable[[Answered], Section | None], ...]] = {
    "classification": (
        score_section,
        confusion_section,
        label_section,
        calibration_section,
        coverage_section,
        precision_recall_section,
        length_section,
        mistake_section,
        none_section,
        mislabelled_section,
        duplicate_section,
    ),
    "multilabel": (
        score_section,
        label_section,
        precision_recall_section,
        calibration_section,
        length_section,
        mistake_section,
        mislabelled_section,
        duplicate_section,
    ),
    "regression": (
        score_section,
        residual_section,
        interval_section,
        length_section,
        mistake_section,
        duplicate_section,
    ),
    "span": (
        score_section,
        question_word_section,
        coverage_section,
        length_section,
        wrong_answer_section,
        duplicate_section,
    ),
}
"""The sections of a report by kind of task. Each is computed from the answers; None if there is nothing to show."""


@dataclass(frozen=True)
class Report:
    """A report.

    Attributes:
        html: the page.
        figures: what the page shows, as JSON: ``adapter``, ``data``, ``rows``, and an object for each section.
    """

    html: str
    figures: Mapping[str, Any]

    def save(self, file: str | PathLike[str]) -> None:
        """Write the page, whole or not at all.

        Raises:
            WriteError: the file cannot be written.
        """
        write_text(file, self.html)


def report(
    backbone: Backbone,
    store: Store,
    reference: str,
    data: Any,
    file: str | PathLike[str] | None = None,
    *,
    train: Any = None,
    name: str | None = None,
    none_label: str | None = None,
    progress: Progress = no_progress,
    **columns: Any,
) -> Report:
    """Let an adapter answer labelled rows and report how well it does.

    Args:
        backbone: the adapter's backbone.
        store: holds the adapter.
        reference: ``task``, ``task@version`` or ``task@alias``.
        data: rows with labels that the adapter was not trained on: ``Rows``, a file, or a table as ``read_task`` takes.
        file: where the page is written (default: nowhere).
        train: the training rows, in any of these forms. With them the report has a linear probe, and duplicates across
            the two.
        none_label: a label of the rows that means none of the adapter's (default: the one of its training). In ``Rows``
            the target of such a row is the number of labels.
        name: what the page calls ``data`` (default: the name of the file).
        progress: called with a stage, the number of its parts that are done, and how many there are.
        columns: ``text``, ``text_pair`` and ``label``, as for ``read_task``.

    Raises:
        NoSuchAdapter: the store has none.
        DataError: rows have no labels, or labels that the adapter does not know.
        PolytaskError: matplotlib is not installed.
        WriteError: the file cannot be written.
    """
    check_drawing()
    entry = store.entry(reference)
    rows = labelled_rows(entry, data, none_label, **columns)
    known = None if train is None else labelled_rows(entry, train, none_label, **columns)
    answered = answer(MultiTask(backbone, store), entry, rows, train=known, progress=progress)
    check_answers(answered)
    title = name or (called(data) if not isinstance(data, Rows) else f"{len(rows):,} rows")
    made = report_of(answered, title.replace("\\", "/").rpartition("/")[2])
    if file is not None:
        made.save(file)
    return made


def report_of(answered: Answered, name: str) -> Report:
    """The report on answers to rows that are called ``name``."""
    parts = SECTIONS[answered.kind]
    sections: list[Section] = []
    for done, part in enumerate(parts):
        answered.progress("making the page", done, len(parts))
        section = part(answered)
        sections += [] if section is None else [section]
    answered.progress("making the page", len(parts), len(parts))
    entry = answered.entry
    title = f"{entry} on {cut(name, 80)}"
    html = render_page(title, _facts(answered), sections, f"Made by polytask report. {FOOTER}")
    whole = {"adapter": str(entry), "kind": answered.kind, "data": name, "rows": len(answered)}
    return Report(html, {**whole, **{section.name: section.data for section in sections}})


FOOTER = "This page needs no other file and no network. Intervals are 95% intervals."


def labelled_rows(entry: Entry, data: Any, none_label: str | None = None, **columns: Any) -> Rows:
    """Rows of an adapter's task with targets.

    Raises:
        DataError: they have none, or labels that the adapter does not know.
    """
    if isinstance(data, Rows):
        if data.targets is None or not len(data):
            raise DataError("a report needs rows with targets", fix="Give them: Rows(texts, targets=…)")
        return data
    head = entry.header.head
    table = table_of(data, head.kind)
    trained = entry.header.result.get("columns")
    if not columns and isinstance(trained, Mapping):
        own = {str(role): name for role, name in trained.items() if isinstance(name, str)}
        columns = {**own} if own and all(name in table.header for name in own.values()) else {}
    unlike = none_label or label_of_none(entry.header.result)
    labels = [*head.labels, *([] if unlike is None or head.kind != "classification" else [unlike])]
    return rows_for(labels, head.kind, table, **columns)


def check_answers(answered: Answered) -> None:
    """Refuse answers that are no numbers.

    Raises:
        PolytaskError: the adapter gives NaN or infinity.
    """
    if not all(math.isfinite(value) for row in answered.scores for value in row):
        raise PolytaskError(f"{answered.entry} answers with what is not a number. Train it again with a smaller --lr")


def _facts(answered: Answered) -> list[tuple[str, str]]:
    header = answered.entry.header
    trained = header.result.get("train")
    rows = trained.get("rows") if isinstance(trained, Mapping) else None
    settings = ", ".join(
        f"{key} {value}" for key, value in header.method.settings().items() if key in ("size", "rank", "n")
    )
    facts = [
        ("kind", answered.kind),
        ("rows", f"{len(answered):,}"),
        ("method", f"{header.method.name}{f' ({settings})' if settings else ''}"),
        ("backbone", f"{header.backbone.architecture}, {header.backbone.layers} layers of {header.backbone.hidden}"),
        ("trained on", f"{rows:,} rows" if isinstance(rows, int) else ""),
        ("made", header.created[:10]),
    ]
    return [(name, value) for name, value in facts if value]
