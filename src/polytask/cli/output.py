"""Writes the file of ``polytask predict --output``: the columns of the input, and columns with each task's answers."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polytask.cli import console, wording
from polytask.errors import DataError, PolytaskError

if TYPE_CHECKING:
    from polytask.adapters.store import Entry
    from polytask.data.columns import Roles
    from polytask.data.read import FileRows
    from polytask.data.task import Kind
    from polytask.inference.prediction import Prediction

ENDINGS = {"span": ("", "_prob", "_start", "_end"), "regression": ("",)}
"""Endings of the added columns by kind of task; other kinds have ``""`` and ``_prob``."""

REASON = "_reason"
"""Ending of the column that says why there is no label, of tasks that may abstain."""

RENAMED = "_answer"
"""Ending of a task's columns if its name alone would be read as a column of the input."""


def check_folder(file: str | None) -> None:
    """Refuse a file in a folder that does not exist, before any work is done.

    Raises:
        DataError: there is no such folder; the message has the command that makes it.
    """
    if file is None or Path(file).parent.is_dir():
        return
    folder = str(Path(file).parent)
    raise DataError(f"there is no folder {folder!r}", file=file, fix=f"Make it first: mkdir -p {shlex.quote(folder)}")


def tasks_that_abstain(entries: Mapping[str, Entry], threshold: float | None = None) -> frozenset[str]:
    """The classifications that may leave a text without a label.

    Args:
        entries: the adapters, by task.
        threshold: one threshold for all labels, instead of the adapters' own thresholds and detectors.
    """
    headers = {task: entry.header for task, entry in entries.items() if entry.header.head.kind == "classification"}
    if threshold is not None:
        return frozenset(headers if threshold > 0 else ())
    return frozenset(task for task, own in headers.items() if own.thresholds is not None or own.none is not None)


def endings_of(kind: Kind, may_abstain: bool) -> tuple[str, ...]:
    """The endings of the columns with a task's answers."""
    return (*ENDINGS.get(kind, ("", "_prob")), *([REASON] if may_abstain else []))


def check_output(
    file: str, output: str | None, source: FileRows, kinds: Mapping[str, Kind], abstaining: Collection[str] = ()
) -> None:
    """Refuse an output that would overwrite something, before any work is done.

    Args:
        file: the input.
        output: the output; None if there is none.
        source: the rows of the input.
        kinds: the kind of each task.
        abstaining: the tasks that may abstain.

    Raises:
        DataError: it is the input file, would have two columns with the same name, or cannot be written.
    """
    from polytask.data.formats import check_writable

    if output is None:
        return
    check_writable(output)
    check_folder(output)
    if Path(output).resolve() == Path(file).resolve():
        raise DataError("the output would overwrite the input", file=output, fix="Give it another name")
    check_added(file, output, source, kinds, abstaining)


def check_added(
    file: str, output: str, source: FileRows, kinds: Mapping[str, Kind], abstaining: Collection[str] = ()
) -> None:
    """Refuse columns of answers that the input has, or that two tasks have. Arguments are those of ``check_output``.

    Raises:
        DataError: a column would be written twice, or exists already.
    """
    names = names_added(source, kinds)
    added = [
        f"{names[task]}{ending}" for task, kind in kinds.items() for ending in endings_of(kind, task in abstaining)
    ]
    for name in added:
        if name in source.table.header:
            fix = "Rename that column: a column of this name is added"
            raise DataError("the file already has this column", file=file, column=name, fix=fix)
        if added.count(name) > 1:
            fix = "Run predict once for each task, with an output of its own"
            raise DataError("two tasks would write this column", file=output, column=name, fix=fix)


def names_added(source: FileRows, kinds: Mapping[str, Kind]) -> dict[str, str]:
    """The column name of each task's answers: the task's name, or ``stars_answer`` if that would be ambiguous.

    A column ``stars`` beside a column ``rating`` would make it unclear which one holds the labels when the file is read
    again. The columns of the input keep their meaning.
    """
    spans = [kind for kind in kinds.values() if kind == "span"]
    before = _roles(source.table.header, *spans[:1])
    names = {}
    for task in kinds:
        after = _roles((*source.table.header, task), *spans[:1])
        names[task] = task if _is_same(before, after) else f"{task}{RENAMED}"
    return names


def _roles(header: Sequence[str], kind: Kind | None = None) -> Roles | None:
    """The columns that are read if none is named; None if they are ambiguous."""
    from polytask.data.read import roles_in
    from polytask.data.table import Table

    try:
        return roles_in(Table("", tuple(header), [], []), kind, needs_label=False)
    except PolytaskError:
        return None


def _is_same(before: Roles | None, after: Roles | None) -> bool:
    """Whether the columns that had a role before still have it."""
    if before is None or after is None:
        return before is after
    return (before.text, before.pair) == (after.text, after.pair) and before.label in (None, after.label)


def renaming_notes(names: Mapping[str, str]) -> list[str]:
    """A note for each task whose answers are in a column with another name, with the reason."""
    return [
        f"the answers of {task} are in the column {name!r}: {task!r} would be read as a column of the input"
        for task, name in names.items()
        if name != task
    ]


def write(
    output: str,
    source: FileRows,
    answers: Mapping[str, Sequence[Prediction]],
    entries: Mapping[str, Entry],
    abstaining: Collection[str] = (),
) -> None:
    """Write the columns of the input and of each task's answers, and print notes about the columns."""
    from polytask.data.formats import write_table

    names = names_added(source, {task: entry.header.head.kind for task, entry in entries.items()})
    header, columns = [*source.table.header], []
    for task, predictions in answers.items():
        for name, cells in cells_of(names[task], predictions, task in abstaining).items():
            header.append(name)
            columns.append(cells)
    classes = {**source.table.classes, **{names[task]: entry.labels for task, entry in entries.items() if entry.labels}}
    write_table(output, header, [[*row, *cells] for row, *cells in zip(source.table.rows, *columns)], classes)
    console.notes(console.terminal(stderr=True), [*renaming_notes(names), *formula_notes(output, entries.values())])


def formula_notes(output: str, entries: Iterable[Entry]) -> list[str]:
    """A note if a spreadsheet would read labels as formulas; they are written unchanged, to be read again."""
    from polytask.data.csv import FORMULAS
    from polytask.data.labels import is_number

    names = [label for entry in entries for label in entry.labels if label[:1] in FORMULAS and len(label) > 1]
    odd = [label for label in names if not is_number(label)]
    if not odd or not output.lower().removesuffix(".gz").endswith((".csv", ".tsv")):
        return []
    return [
        f"spreadsheets read labels such as {wording.shortened(odd[0], 40)!r} as formulas; .jsonl and .parquet are safe"
    ]


def cells_of(name: str, predictions: Sequence[Prediction], may_abstain: bool = False) -> dict[str, list[Any]]:
    """The columns of one task's answers, by name.

    ``name`` is the label, a list of labels, a number or the text of a span. ``name_prob`` is its probability, or a list
    of them. Spans also have ``name_start`` and ``name_end``, in characters of the context. Classifications that may
    abstain also have ``name_reason``: ``none of these``, ``below the threshold``, or empty beside a label.
    """
    if may_abstain:
        reasons = [prediction.reason for prediction in predictions]
        return {**cells_of(name, predictions), f"{name}{REASON}": reasons}
    answered = [prediction for prediction in predictions if prediction.error is None]
    if len(answered) < len(predictions):
        own = cells_of(name, answered) if answered else {name: [], f"{name}_prob": []}
        return {column: with_gaps(cells, predictions) for column, cells in own.items()}
    if predictions[0].answer is not None:
        cells = [(p.answer, round(p.score or 0.0, 6), p.start, p.end) for p in predictions]
        return {f"{name}{ending}": list(column) for ending, column in zip(ENDINGS["span"], zip(*cells))}
    if predictions[0].score is not None:
        return {name: [shortest_float(prediction.score or 0.0) for prediction in predictions]}
    if predictions[0].labels is not None:
        labels = [list(prediction.labels or ()) for prediction in predictions]
        probs = [[round((p.probs or {})[label], 4) for label in own] for p, own in zip(predictions, labels)]
        return {name: labels, f"{name}_prob": probs}
    likeliest = [(p.probs or {})[p.label] if p.label else max((p.probs or {}).values()) for p in predictions]
    return {name: [p.label for p in predictions], f"{name}_prob": [round(prob, 6) for prob in likeliest]}


def shortest_float(score: float) -> float:
    """The shortest decimal number with the same float32 value; heads compute in float32."""
    import numpy as np

    return float(str(np.float32(score)))


def with_gaps(cells: Sequence[Any], predictions: Sequence[Prediction]) -> list[Any]:
    """The column with an empty cell for each row that has no answer."""
    given = iter(cells)
    return [next(given) if prediction.error is None else None for prediction in predictions]
