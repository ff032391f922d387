"""Interprets a column of labels: the kind of task, the label names and the target of each row.

The rules are the same for CSV, where every cell is a string, and for formats with numbers, lists and booleans:

* Lists, including lists written as text (``['a', 'b']``), make a multi-label task. So do cells such as
  ``sports|politics`` whose parts occur in other cells; otherwise the ``|`` is part of a name.
* Decimal numbers make a regression. A few that repeat are classes, unless the column has a name such as ``score``.
  Whole numbers are classes.
* Everything else is a class. Whole numbers are sorted by value, all other names by their characters.

A label has the same name in every format. ``True`` and ``TRUE`` become ``true``. If all labels are numbers, whole ones
lose their decimal point (``1.0`` becomes ``1``), except section numbers (``2.0``, ``2.10``) and whole numbers with too
many values to be classes. Spaces around a label are removed.
"""

from __future__ import annotations

import difflib
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from polytask.data.label_lists import SEPARATOR, are_joined, first_of_minority, parse_list, split_joined
from polytask.data.table import Cell, Column
from polytask.data.task import MAX_SCORE, Kind, Target, describe_constant_targets, is_blank
from polytask.errors import DataError

MAX_NUMERIC_CLASSES = 20
"""At most this many different decimal numbers can be classes."""
MIN_ROWS_PER_CLASS = 3
"""Numbers are classes only if there are this many rows per number, on average."""
SCORE_NAMES = frozenset("score rating ratings stars points grade similarity relevance quality".split())
"""Column names whose numbers are scores, not classes."""
MISSING = ("the label is missing", "Fill it in, or drop such rows with --drop-empty (drop_empty=True in Python)")
"""Problem and advice for a row without a label."""

_WHOLE = re.compile(r"[-+]?[0-9]{1,18}")
_WHOLE_WITH_POINT = re.compile(r"([-+]?[0-9]{1,18})\.0*")
_PADDED = re.compile(r"[-+]?[0-9]*\.[0-9]+0")
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,4})?|[-+]?(nan|inf|infinity)", re.IGNORECASE)


def is_empty(cell: Cell) -> bool:
    """Whether a cell is empty: None, NaN, or a string of spaces only."""
    if isinstance(cell, str):
        return is_blank(cell)
    return (
        cell is None or (isinstance(cell, float) and math.isnan(cell)) or type(cell).__name__ in ("NAType", "NaTType")
    )


def is_missing(cell: Cell, kind: Kind) -> bool:
    """Whether a row has no label. In a multi-label task an empty string is a valid empty set of labels."""
    return is_empty(cell) and not (kind == "multilabel" and isinstance(cell, str))


def normalize_labels(column: Column, kind: Kind | None) -> Column:
    """Replace each label by its canonical name; scores and spans stay unchanged.

    Args:
        column: the column of labels.
        kind: the kind of task; None to infer it from the labels later.

    Raises:
        DataError: some cells are lists and others are not.
    """
    column = split_label_lists(column, kind)
    if kind not in (None, "classification", "multilabel"):
        return column
    are_classes = kind is not None or any(isinstance(cell, list) for cell in column.cells)
    cells = _canonical_cells(column.cells, are_classes=are_classes)
    return column if cells is column.cells else replace(column, cells=cells)


def split_label_lists(column: Column, kind: Kind | None) -> Column:
    """Parse cells with several labels, such as ``['a', 'b']`` or ``a|b``, into lists if rows may have several labels.

    Args:
        column: the column of labels.
        kind: the kind of task; None to infer it from the labels later.

    Raises:
        DataError: some cells are lists and others are not. If ``kind`` is None, only if most of them are lists.
    """
    if kind not in (None, "multilabel"):
        return column
    column = _parse_label_lists(column, kind)
    has_several = kind == "multilabel" or any(isinstance(cell, list) for cell in column.cells)
    if not any(isinstance(cell, str) and SEPARATOR in cell for cell in column.cells):
        return column
    if not has_several and not are_joined(column.cells, _canonical_name):
        return column
    is_joined = [isinstance(cell, str) and SEPARATOR in cell for cell in column.cells]
    return replace(column, cells=[split_joined(cell) if own else cell for own, cell in zip(is_joined, column.cells)])


def _parse_label_lists(column: Column, kind: Kind | None) -> Column:
    cells = column.cells
    read = [parse_list(cell) if isinstance(cell, str) and not is_empty(cell) else cell for cell in cells]
    is_list = [
        isinstance(found, list) if isinstance(cell, str) and not is_empty(cell) else None
        for cell, found in zip(cells, read)
    ]
    num_lists = is_list.count(True)
    if not num_lists or (kind is None and num_lists <= is_list.count(False)):
        return column
    if (odd := first_of_minority(is_list)) is None:
        return replace(column, cells=read)
    what = "a list of labels, but most other cells are not" if is_list[odd] else "not a list of labels, but others are"
    fix = "Write all cells as lists, or none" + ("" if kind else ". If they are names, use --kind classification")
    raise column.error(odd, f"{str(cells[odd]).strip()[:60]!r} is {what}", fix)


def _canonical_cells(cells: Sequence[Cell], *, are_classes: bool) -> Sequence[Cell]:
    """Replace labels by their canonical names; return ``cells`` itself if no label changes."""
    labels = _distinct_labels(cells)
    normalize_number = _number_normalizer(labels, cells, are_classes=are_classes)

    def name(cell: Cell) -> Cell:
        return _boolean_name(cell) or normalize_number(cell)

    if all(format_label(name(label)) == format_label(label) for label in labels):
        return cells
    return [list(map(name, cell)) if isinstance(cell, list) else name(cell) for cell in cells]


def _number_normalizer(labels: Sequence[Cell], cells: Sequence[Cell], *, are_classes: bool) -> Callable[[Cell], Cell]:
    """Return the function that gives equal numbers in a column the same name.

    If all labels are numbers, whole ones lose their decimal point, except section numbers (``2.0``, ``2.10``) and,
    unless ``are_classes``, whole numbers with too many values to be classes. If some labels are words, strings stay
    unchanged, and a JSON number that occurs both with and without a decimal point loses it.
    """
    labels = [label for label in labels if _boolean_name(label) is None]
    if not all(map(is_number, labels)):
        whole = {label for label in labels if type(label) is int}
        return lambda cell: (int(cell) if cell in whole else cell + 0.0) if isinstance(cell, float) else cell
    names = {str(_drop_zero_decimals(label)).strip() for label in labels}
    if all(map(is_whole, names)):
        count = sum(len(cell) if isinstance(cell, list) else not is_empty(cell) for cell in cells)
        return _drop_zero_decimals if are_classes or count >= MIN_ROWS_PER_CLASS * len(names) else _unchanged
    return _unchanged if _are_section_numbers({str(label).strip() for label in labels}) else _drop_zero_decimals


def _unchanged(cell: Cell) -> Cell:
    return cell


def _distinct_labels(cells: Iterable[Cell]) -> list[Cell]:
    """Return the distinct labels, including those inside lists."""
    flat = (each for cell in cells for each in (cell if isinstance(cell, list) else [cell]) if not is_empty(each))
    return [label for _, label in {(type(label), str(label)): label for label in flat}.items()]


def _boolean_name(cell: Cell) -> str | None:
    """Return ``true`` or ``false`` for a boolean in any format, else None."""
    name = str(cell).strip().lower() if isinstance(cell, str | bool) else ""
    return name if name in ("true", "false") else None


def _drop_zero_decimals(cell: Cell) -> Cell:
    """Return ``1`` for ``1.0`` and ``0`` for ``-0.0``; anything else unchanged."""
    if isinstance(cell, float):
        return int(cell) if cell.is_integer() and abs(cell) < 1e15 else cell
    found = _WHOLE_WITH_POINT.fullmatch(cell.strip()) if isinstance(cell, str) else None
    return cell if found is None else "0" if found[1] == "-0" else found[1]


def _are_few_classes(num_different: int, num_rows: int) -> bool:
    return num_different <= MAX_NUMERIC_CLASSES and num_rows >= MIN_ROWS_PER_CLASS * num_different


def infer_kind(cells: Sequence[Cell], name: str = "") -> Kind:
    """Infer the kind of task from labels.

    Args:
        cells: labels as ``normalize_labels`` returns them, none missing.
        name: the column's name; one such as ``score`` makes a regression of decimal numbers.

    Returns:
        ``classification``, ``multilabel`` or ``regression``.
    """
    if any(isinstance(cell, list) for cell in cells) or are_joined(cells, _canonical_name):
        return "multilabel"
    numbers = {str(cell).strip() for cell in cells}
    if not all(map(is_number, cells)) or all(map(is_whole, numbers)):
        return "classification"
    if name.lower() not in SCORE_NAMES and _are_few_classes(len(numbers), len(cells)) and all(map(_is_finite, cells)):
        return "classification"
    return (
        "classification"
        if _are_section_numbers(numbers) and len(cells) >= MIN_ROWS_PER_CLASS * len(numbers)
        else "regression"
    )


def _is_finite(cell: Cell) -> bool:
    return math.isfinite(float(cell)) if isinstance(cell, str | float) else True


def _are_section_numbers(numbers: set[str]) -> bool:
    """Whether decimals differ in length and some end in zero, such as section numbers 2.9 and 2.10."""
    return len({len(number.partition(".")[2]) for number in numbers}) > 1 and any(map(_PADDED.fullmatch, numbers))


def label_names(column: Column, kind: Kind) -> tuple[str, ...]:
    """Return the label names in a column, in the order of their indices; none for regression and spans.

    Rows without a label are skipped here; ``parse_targets`` refuses them.

    Raises:
        DataError: a cell is not a label.
    """
    if kind in ("regression", "span"):
        return ()
    labelled = (row for row, cell in enumerate(column.cells) if not is_missing(cell, kind))
    return sort_labels({name for row in labelled for name in _names_in_cell(column, row, kind)})


def sort_labels(names: set[str]) -> tuple[str, ...]:
    """Sort names by value if all are whole numbers, else by their characters."""
    if all(map(is_whole, names)):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def put_positive_last(labels: Sequence[str], kind: Kind, positive: str) -> tuple[str, ...]:
    """Return the two labels of a task with the positive one at index 1.

    Args:
        labels: the label names.
        kind: the kind of task.
        positive: the name of the positive label.

    Raises:
        DataError: the task does not have two labels, or ``positive`` is not one of them.
    """
    if kind != "classification" or len(labels) != 2:
        what = f"this task has {len(labels)} labels" if kind == "classification" else f"this is a {kind} task"
        raise DataError(f"--positive needs a task with two labels, and {what}", fix="Omit --positive")
    name = positive.strip()
    if name not in labels:
        name = {_canonical_name(label): label for label in labels}.get(_canonical_name(name), name)
    if name not in labels:
        raise DataError(
            f"--positive {positive!r} is not a label of this task", fix=f"Its labels are: {', '.join(labels)}"
        )
    return (labels[1 - labels.index(name)], name)


def parse_targets(column: Column, kind: Kind, labels: Sequence[str]) -> list[Target]:
    """Return the target of each row: an index into ``labels``, a tuple of indices, or a number.

    A label is looked up as it is written, then by its canonical name, so ``True`` matches ``true``.

    Args:
        column: the column of labels.
        kind: ``classification``, ``multilabel`` or ``regression``.
        labels: the label names in the order of their indices.

    Raises:
        DataError: a cell is not a label, a number is not finite or too large, or a label is not in ``labels``.
    """
    rows = range(len(column.cells))
    if kind == "regression":
        return [_parse_score(column, row) for row in rows]
    index_of = {name: index for index, name in enumerate(labels)}
    index_of_canonical = _index_by_canonical_name(labels)
    targets: list[Target] = []
    for row in rows:
        names = _names_in_cell(column, row, kind)
        for name in names:
            if name not in index_of:
                if (same := index_of_canonical.get(_canonical_name(name))) is None:
                    raise _unknown_label(column, row, name, labels)
                index_of[name] = same
        indices = sorted({index_of[name] for name in names})
        targets.append(tuple(indices) if kind == "multilabel" else indices[0])
    return targets


def _canonical_name(name: str) -> str:
    return _boolean_name(name) or str(_drop_zero_decimals(name))


def _index_by_canonical_name(labels: Sequence[str]) -> dict[str, int]:
    """Map unambiguous canonical names to indices, for adapters with older names such as ``True`` and ``1.0``."""
    counts = Counter(map(_canonical_name, labels))
    return {_canonical_name(label): index for index, label in enumerate(labels) if counts[_canonical_name(label)] == 1}


def format_label(cell: Cell) -> str:
    """Format a label cell as a string: a name, a number, or several names joined by ``|``; ``""`` if it is empty."""
    if is_empty(cell):
        return ""
    if isinstance(cell, list):
        return SEPARATOR.join(map(format_label, cell))
    if isinstance(cell, bool):
        return "true" if cell else "false"
    return str(cell).strip()


def check_variety(column: Column, kind: Kind, targets: Sequence[Target], labels: Sequence[str]) -> None:
    """Check that the targets differ; there is nothing to learn from equal ones.

    Raises:
        DataError: all rows have the same target.
    """
    if (what := describe_constant_targets(kind, targets, labels)) is not None:
        raise DataError(what[0], file=column.file, column=column.name, fix=what[1])


def label_counts(kind: Kind, targets: Sequence[Target]) -> Counter[int]:
    """Count the rows of each label index."""
    if kind == "multilabel":
        return Counter(index for target in targets for index in target)
    return Counter(targets)


def is_whole(cell: Cell) -> bool:
    """Whether a cell is a whole number, or a string that is one."""
    if isinstance(cell, str):
        return _WHOLE.fullmatch(cell.strip()) is not None
    return isinstance(cell, int) and not isinstance(cell, bool)


def is_number(cell: Cell) -> bool:
    """Whether a cell is a number, or a string that is one."""
    if isinstance(cell, str):
        return _NUMBER.fullmatch(cell.strip()) is not None
    return isinstance(cell, (int, float)) and not isinstance(cell, bool)


def _names_in_cell(column: Column, row: int, kind: Kind) -> list[str]:
    cell = column.cells[row]
    if kind != "multilabel":
        return [_label_name(column, row, cell)]
    if not isinstance(cell, list):
        return [_label_name(column, row, part) for part in (split_joined(cell) if isinstance(cell, str) else [cell])]
    for label in cell:
        if is_empty(label) or not isinstance(label, str | int | float):
            fix = "Use words or numbers, or remove it"
            raise column.error(row, f"the list contains {label!r:.60}, which is not a label", fix)
    return list(map(format_label, cell))


def _label_name(column: Column, row: int, cell: Cell) -> str:
    if is_empty(cell):
        raise column.error(row, *MISSING)
    if isinstance(cell, list):
        raise column.error(row, "a list of labels in a task with one label per row", "Use --kind multilabel")
    if not isinstance(cell, (str, int, float)):
        raise column.error(row, f"{str(cell)[:60]!r} is not a label", "Use a word or a number")
    return format_label(cell)


def _parse_score(column: Column, row: int) -> float:
    cell = column.cells[row]
    if is_empty(cell):
        raise column.error(row, *MISSING)
    if not is_number(cell):
        text = str(cell).strip()
        fix = (
            "Use a decimal point, not a comma"
            if is_number(text.replace(",", ".", 1))
            else "Each row of a regression needs a number. If these are classes, use --kind classification"
        )
        raise column.error(row, f"{text[:60]!r} is not a number", fix)
    try:
        number = float(cell)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise column.error(row, f"{cell} is not a finite number", "Enter a number, or remove the row")
    if abs(number) > MAX_SCORE:
        fix = f"Numbers beyond {MAX_SCORE:.0e} cannot be learned. Use a larger unit, or remove the row"
        raise column.error(row, f"the number {number:g} is too large", fix)
    return number


def _unknown_label(column: Column, row: int, name: str, labels: Sequence[str]) -> DataError:
    alike = [label for label in labels if label.casefold() == name.casefold()]
    near = alike or difflib.get_close_matches(name, labels, n=1)
    guess = f"Did you mean {near[0]!r}? " if near else ""
    known = ", ".join(labels[:20]) + (f" … ({len(labels):,} in all)" if len(labels) > 20 else "")
    return column.error(row, f"the label {name!r} is not a label of this task", f"{guess}Its labels are: {known}")
