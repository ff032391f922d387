"""What a column of labels means: the kind of task, the names of its labels, and each row's target.

The same rules hold for a CSV, where every cell is a string, and for formats that know numbers and lists:

* a list, or a cell such as ``sports|politics``, makes a multi-label task;
* numbers of which at least one is not whole make a regression;
* anything else is a class. Whole numbers keep the order of numbers, all other names that of their characters.
  A JSON ``true`` is the label ``true``.

Spaces around a label are not part of it.
"""

from __future__ import annotations

import difflib
import math
import re
from collections import Counter
from collections.abc import Sequence

from polytask.errors import DataError
from polytask.tasks.tables import Cell, Column
from polytask.tasks.task import Kind, Target

SEPARATOR = "|"
MISSING = ("the label is missing", "Fill it in, or leave such rows out with --drop-empty")
_WHOLE = re.compile(r"[-+]?[0-9]{1,18}")
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,4})?|[-+]?(nan|inf|infinity)", re.IGNORECASE)


def is_empty(cell: Cell) -> bool:
    """Whether there is nothing in the cell: no value, only spaces, or the number NaN."""
    if isinstance(cell, str):
        return not cell or cell.isspace()
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def is_missing(cell: Cell, kind: Kind) -> bool:
    """Whether the row has no label: in a multi-label task an empty string is an answer, none of the labels."""
    return is_empty(cell) and not (kind == "multilabel" and isinstance(cell, str))


def infer_kind(cells: Sequence[Cell]) -> Kind:
    """The kind of task that labels like these make."""
    if any(isinstance(cell, list) or (isinstance(cell, str) and SEPARATOR in cell) for cell in cells):
        return "multilabel"
    if all(map(_is_number, cells)) and not all(map(is_whole, cells)):
        return "regression"
    return "classification"


def names_in(column: Column, kind: Kind) -> tuple[str, ...]:
    """The names of the labels that occur, in the order of their indices; none for a regression or spans.

    Rows without a label are passed over here, and refused by ``targets_of``.

    Raises:
        DataError: a cell is not a label.
    """
    if kind in ("regression", "span"):
        return ()
    labelled = (row for row, cell in enumerate(column.cells) if not is_missing(cell, kind))
    return in_order({name for row in labelled for name in _names(column, row, kind)})


def in_order(names: set[str]) -> tuple[str, ...]:
    """Whole numbers in the order of numbers, all other names in that of their characters."""
    if all(map(is_whole, names)):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def targets_of(column: Column, kind: Kind, labels: Sequence[str]) -> list[Target]:
    """What each row should be answered with: an index into ``labels``, a tuple of them, or a number.

    Raises:
        DataError: a cell is not a label, a number is not finite, or a label is not in ``labels``.
    """
    rows = range(len(column.cells))
    if kind == "regression":
        return [_number(column, row) for row in rows]
    index_of = {name: index for index, name in enumerate(labels)}
    targets: list[Target] = []
    for row in rows:
        names = _names(column, row, kind)
        for name in names:
            if name not in index_of:
                raise _unknown(column, row, name, labels)
        indices = sorted({index_of[name] for name in names})
        targets.append(tuple(indices) if kind == "multilabel" else indices[0])
    return targets


def spelled(cell: Cell) -> str:
    """A cell as one string: the name of its label, several joined by ``|``, or its number; ``""`` for none."""
    if is_empty(cell):
        return ""
    if isinstance(cell, list):
        return SEPARATOR.join(map(spelled, cell))
    if isinstance(cell, bool):
        return "true" if cell else "false"
    return str(cell).strip()


def check_variety(column: Column, kind: Kind, targets: Sequence[Target], labels: Sequence[str]) -> None:
    """Refuse rows that all have the same target: there is nothing to learn from them.

    Raises:
        DataError: they have.
    """
    if len(set(targets)) > 1:
        return
    rows = "the only row has" if len(targets) == 1 else f"all {len(targets):,} rows have"
    what = f"the number {targets[0]}" if kind == "regression" else _label_words(targets[0], labels)
    fix = f"At least two different {'numbers' if kind == 'regression' else 'labels'} are needed to learn from"
    raise DataError(f"{rows} {what}", file=column.file, column=column.name, fix=fix)


def label_counts(kind: Kind, targets: Sequence[Target]) -> Counter[int]:
    """How many rows each label has."""
    if kind == "multilabel":
        return Counter(index for target in targets for index in target)
    return Counter(targets)


def _label_words(target: Target, labels: Sequence[str]) -> str:
    names = [repr(labels[index]) for index in (target if isinstance(target, tuple) else (target,))]
    return f"the label{'s' * (len(names) > 1)} {' and '.join(names)}" if names else "no label"


def is_whole(cell: Cell) -> bool:
    """Whether it is a whole number, or a string that spells one."""
    if isinstance(cell, str):
        return _WHOLE.fullmatch(cell.strip()) is not None
    return isinstance(cell, int) and not isinstance(cell, bool)


def _is_number(cell: Cell) -> bool:
    if isinstance(cell, str):
        return _NUMBER.fullmatch(cell.strip()) is not None
    return isinstance(cell, (int, float)) and not isinstance(cell, bool)


def _names(column: Column, row: int, kind: Kind) -> list[str]:
    cell = column.cells[row]
    if kind != "multilabel":
        return [_name(column, row, cell)]
    if isinstance(cell, str):
        cell = [part for part in cell.split(SEPARATOR) if part.strip()]
    return [_name(column, row, part) for part in (cell if isinstance(cell, list) else [cell])]


def _name(column: Column, row: int, cell: Cell) -> str:
    if is_empty(cell):
        raise column.error(row, *MISSING)
    if isinstance(cell, list):
        raise column.error(row, "a list of labels in a task with one label a row", "Ask for --kind multilabel")
    if not isinstance(cell, (str, int, float)):
        raise column.error(row, f"{str(cell)[:60]!r} is not a label", "Write a word or a number")
    return spelled(cell)


def _number(column: Column, row: int) -> float:
    cell = column.cells[row]
    if is_empty(cell):
        raise column.error(row, *MISSING)
    if not _is_number(cell):
        text = str(cell).strip()
        fix = (
            "Write a decimal point, not a comma"
            if _is_number(text.replace(",", ".", 1))
            else ("Each row of a regression needs a number. If these are classes, ask for --kind classification")
        )
        raise column.error(row, f"{text[:60]!r} is not a number", fix)
    try:
        number = float(cell)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise column.error(row, f"{cell} is not a finite number", "Put a number there, or take the row out")
    return number


def _unknown(column: Column, row: int, name: str, labels: Sequence[str]) -> DataError:
    alike = [label for label in labels if label.casefold() == name.casefold()]
    near = alike or difflib.get_close_matches(name, labels, n=1)
    guess = f"Did you mean {near[0]!r}? " if near else ""
    known = ", ".join(labels[:20]) + (f" … ({len(labels):,} in all)" if len(labels) > 20 else "")
    return column.error(row, f"the label {name!r} is not one of this task's", f"{guess}Known are: {known}")
