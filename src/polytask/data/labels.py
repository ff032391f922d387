"""What a column of labels means: the kind of task, the names of its labels, and each row's target.

The same rules hold for a CSV, where every cell is a string, and for formats that know numbers, lists and truth values:

* a list, be it written as text (``['a', 'b']``), makes a multi-label task, and so do cells such as
  ``sports|politics`` where the parts recur in other cells; where they do not, the ``|`` is part of a name;
* many different numbers with a point make a regression; few that recur are classes, unless the column is called
  ``score`` or the like, and so are all whole numbers that recur;
* anything else is a class. Whole numbers keep the order of numbers, all other names that of their characters.

A label has one name in all formats: ``True`` and ``TRUE`` are ``true``; where all labels are numbers, whole ones lose
their point, ``1.0`` is ``1``, unless they are sections of a book (``2.0``, ``2.10``), or whole numbers too many to be
classes.

Spaces around a label are not part of it.
"""

from __future__ import annotations

import difflib
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from polytask.data.label_lists import SEPARATOR, are_joined, list_in, odd_one, parts_of
from polytask.data.table import Cell, Column
from polytask.data.task import MOST_SCORE, Kind, Target, all_alike, is_blank
from polytask.errors import DataError

MOST_FEW = 20
"""So many different numbers are few."""
OFTEN = 3
"""Classes recur: each so often, on average."""
SCORE_NAMES = frozenset("score rating ratings stars points grade similarity relevance quality".split())
"""Names of columns whose numbers have an order."""
MISSING = ("the label is missing", "Fill it in, or leave such rows out with --drop-empty")
_WHOLE = re.compile(r"[-+]?[0-9]{1,18}")
_WHOLE_WITH_POINT = re.compile(r"([-+]?[0-9]{1,18})\.0*")
_PADDED = re.compile(r"[-+]?[0-9]*\.[0-9]+0")
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,4})?|[-+]?(nan|inf|infinity)", re.IGNORECASE)


def is_empty(cell: Cell) -> bool:
    """Whether there is nothing in the cell: no value, only spaces, or the number NaN."""
    if isinstance(cell, str):
        return is_blank(cell)
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def is_missing(cell: Cell, kind: Kind) -> bool:
    """Whether the row has no label: in a multi-label task an empty string is an answer, none of the labels."""
    return is_empty(cell) and not (kind == "multilabel" and isinstance(cell, str))


def meant(column: Column, kind: Kind | None) -> Column:
    """The column with each label as its one name in all formats; ``kind`` is None where the labels decide it.

    The cells of scores and spans stay as they are.

    Raises:
        DataError: some cells spell lists and others do not.
    """
    column = with_lists(column, kind)
    if kind not in (None, "classification", "multilabel"):
        return column
    is_no_score = kind is not None or any(isinstance(cell, list) for cell in column.cells)
    cells = _as_names(column.cells, asked=is_no_score)
    return column if cells is column.cells else replace(column, cells=cells)


def with_lists(column: Column, kind: Kind | None) -> Column:
    """The column with lists for texts that spell or join several labels, if there may be several.

    Raises:
        DataError: some cells spell lists and others do not; where ``kind`` is None, most of them do.
    """
    if kind not in (None, "multilabel"):
        return column
    column = _with_spelled_lists(column, kind)
    has_several = kind == "multilabel" or any(isinstance(cell, list) for cell in column.cells)
    if not any(isinstance(cell, str) and SEPARATOR in cell for cell in column.cells):
        return column
    if not has_several and not are_joined(column.cells, _meaning):
        return column
    is_joined = [isinstance(cell, str) and SEPARATOR in cell for cell in column.cells]
    return replace(column, cells=[parts_of(cell) if own else cell for own, cell in zip(is_joined, column.cells)])


def _with_spelled_lists(column: Column, kind: Kind | None) -> Column:
    cells = column.cells
    read = [list_in(cell) if isinstance(cell, str) and not is_empty(cell) else cell for cell in cells]
    is_list = [
        isinstance(found, list) if isinstance(cell, str) and not is_empty(cell) else None
        for cell, found in zip(cells, read)
    ]
    num_lists = is_list.count(True)
    if not num_lists or (kind is None and num_lists <= is_list.count(False)):
        return column
    if (odd := odd_one(is_list)) is None:
        return replace(column, cells=read)
    what = "a list of labels, as few others of the column are" if is_list[odd] else "no list of labels, as others are"
    fix = "Write all of them as lists, or none" + ("" if kind else ". If they are names, ask for --kind classification")
    raise column.error(odd, f"{str(cells[odd]).strip()[:60]!r} is {what}", fix)


def _as_names(cells: Sequence[Cell], *, asked: bool) -> Sequence[Cell]:
    """Names without what formats add: ``true`` for ``True``, ``1`` for ``1.0`` where numbers may lose their point."""
    labels = _distinct(cells)
    of_number = _number_naming(labels, cells, asked=asked)

    def name(cell: Cell) -> Cell:
        return _truth(cell) or of_number(cell)

    if all(spelled(name(label)) == spelled(label) for label in labels):
        return cells
    return [list(map(name, cell)) if isinstance(cell, list) else name(cell) for cell in cells]


def _number_naming(labels: Sequence[Cell], cells: Sequence[Cell], *, asked: bool) -> Callable[[Cell], Cell]:
    """What gives equal numbers of a column one name.

    Where all labels are numbers, the whole ones lose their point, unless they are sections (``2.0``, ``2.10``), or so
    many different whole numbers that nobody asked for classes. Beside words a text stays as it is written, and a number
    of JSON that is there with and without a point loses it.
    """
    labels = [label for label in labels if _truth(label) is None]
    if not all(map(is_number, labels)):
        whole = {label for label in labels if type(label) is int}
        return lambda cell: (int(cell) if cell in whole else cell + 0.0) if isinstance(cell, float) else cell
    names = {str(_without_point(label)).strip() for label in labels}
    if all(map(is_whole, names)):
        count = sum(len(cell) if isinstance(cell, list) else not is_empty(cell) for cell in cells)
        return _without_point if asked or count >= OFTEN * len(names) else _as_it_is
    return _as_it_is if _are_sections({str(label).strip() for label in labels}) else _without_point


def _as_it_is(cell: Cell) -> Cell:
    return cell


def _distinct(cells: Iterable[Cell]) -> list[Cell]:
    """Every label once, from lists too."""
    flat = (each for cell in cells for each in (cell if isinstance(cell, list) else [cell]) if not is_empty(each))
    return [label for _, label in {(type(label), str(label)): label for label in flat}.items()]


def _truth(cell: Cell) -> str | None:
    """``true`` or ``false``, if it says so in any format."""
    name = str(cell).strip().lower() if isinstance(cell, str | bool) else ""
    return name if name in ("true", "false") else None


def _without_point(cell: Cell) -> Cell:
    """``1`` for ``1.0``, ``0`` for ``-0.0``; all else as it is."""
    if isinstance(cell, float):
        return int(cell) if cell.is_integer() and abs(cell) < 1e15 else cell
    found = _WHOLE_WITH_POINT.fullmatch(cell.strip()) if isinstance(cell, str) else None
    return cell if found is None else "0" if found[1] == "-0" else found[1]


def _are_few(num_different: int, num_rows: int) -> bool:
    return num_different <= MOST_FEW and num_rows >= OFTEN * num_different


def infer_kind(cells: Sequence[Cell], name: str = "") -> Kind:
    """The kind of task that labels like these make, in a column of this name.

    They are as ``meant`` gives them, and none is missing.
    """
    if any(isinstance(cell, list) for cell in cells) or are_joined(cells, _meaning):
        return "multilabel"
    numbers = {str(cell).strip() for cell in cells}
    if not all(map(is_number, cells)) or all(map(is_whole, numbers)):
        return "classification"
    if name.lower() not in SCORE_NAMES and _are_few(len(numbers), len(cells)) and all(map(_is_finite, cells)):
        return "classification"
    return "classification" if _are_sections(numbers) and len(cells) >= OFTEN * len(numbers) else "regression"


def _is_finite(cell: Cell) -> bool:
    return math.isfinite(float(cell)) if isinstance(cell, str | float) else True


def _are_sections(numbers: set[str]) -> bool:
    """Whether decimals are of unequal length and yet end in zeros: ``2.9`` and ``2.10`` are no values of a number."""
    return len({len(number.partition(".")[2]) for number in numbers}) > 1 and any(map(_PADDED.fullmatch, numbers))


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


def positive_last(labels: Sequence[str], kind: Kind, positive: str) -> tuple[str, ...]:
    """The two labels of a task with this one at index 1.

    Raises:
        DataError: it is none of two labels.
    """
    if kind != "classification" or len(labels) != 2:
        what = f"{len(labels)} labels" if kind == "classification" else f"no two labels: it is of the kind {kind}"
        raise DataError(f"one of two labels can be positive, and this task has {what}", fix="Leave out --positive")
    name = positive.strip()
    if name not in labels:
        name = {_meaning(label): label for label in labels}.get(_meaning(name), name)
    if name not in labels:
        raise DataError(f"--positive {positive!r} is no label of this task", fix=f"Its labels are: {', '.join(labels)}")
    return (labels[1 - labels.index(name)], name)


def targets_of(column: Column, kind: Kind, labels: Sequence[str]) -> list[Target]:
    """What each row should be answered with: an index into ``labels``, a tuple of them, or a number.

    A label that is not among ``labels`` as it is written is looked up by what it means: ``True`` is ``true`` there.

    Raises:
        DataError: a cell is not a label, a number is not finite, or a label is not in ``labels``.
    """
    rows = range(len(column.cells))
    if kind == "regression":
        return [_number(column, row) for row in rows]
    index_of = {name: index for index, name in enumerate(labels)}
    of_other_formats = _by_meaning(labels)
    targets: list[Target] = []
    for row in rows:
        names = _names(column, row, kind)
        for name in names:
            if name not in index_of:
                if (same := of_other_formats.get(_meaning(name))) is None:
                    raise _unknown(column, row, name, labels)
                index_of[name] = same
        indices = sorted({index_of[name] for name in names})
        targets.append(tuple(indices) if kind == "multilabel" else indices[0])
    return targets


def _meaning(name: str) -> str:
    return _truth(name) or str(_without_point(name))


def _by_meaning(labels: Sequence[str]) -> dict[str, int]:
    """The labels that are ``name`` in some format: ``True`` and ``1.0`` of an older adapter by ``true`` and ``1``."""
    counts = Counter(map(_meaning, labels))
    return {_meaning(label): index for index, label in enumerate(labels) if counts[_meaning(label)] == 1}


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
    if (what := all_alike(kind, targets, labels)) is not None:
        raise DataError(what[0], file=column.file, column=column.name, fix=what[1])


def label_counts(kind: Kind, targets: Sequence[Target]) -> Counter[int]:
    """How many rows each label has."""
    if kind == "multilabel":
        return Counter(index for target in targets for index in target)
    return Counter(targets)


def is_whole(cell: Cell) -> bool:
    """Whether it is a whole number, or a string that spells one."""
    if isinstance(cell, str):
        return _WHOLE.fullmatch(cell.strip()) is not None
    return isinstance(cell, int) and not isinstance(cell, bool)


def is_number(cell: Cell) -> bool:
    """Whether it is a number, or a string that spells one."""
    if isinstance(cell, str):
        return _NUMBER.fullmatch(cell.strip()) is not None
    return isinstance(cell, (int, float)) and not isinstance(cell, bool)


def _names(column: Column, row: int, kind: Kind) -> list[str]:
    cell = column.cells[row]
    if kind != "multilabel":
        return [_name(column, row, cell)]
    if not isinstance(cell, list):
        return [_name(column, row, part) for part in (parts_of(cell) if isinstance(cell, str) else [cell])]
    for label in cell:
        if is_empty(label) or not isinstance(label, str | int | float):
            fix = "Write words or numbers, or take it out"
            raise column.error(row, f"the list has {label!r:.60}, which is no label", fix)
    return list(map(spelled, cell))


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
    if not is_number(cell):
        text = str(cell).strip()
        fix = (
            "Write a decimal point, not a comma"
            if is_number(text.replace(",", ".", 1))
            else ("Each row of a regression needs a number. If these are classes, ask for --kind classification")
        )
        raise column.error(row, f"{text[:60]!r} is not a number", fix)
    try:
        number = float(cell)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise column.error(row, f"{cell} is not a finite number", "Put a number there, or take the row out")
    if abs(number) > MOST_SCORE:
        fix = f"Numbers beyond {MOST_SCORE:.0e} cannot be learned: give them in a larger unit, or take the row out"
        raise column.error(row, f"the number {number:g} is too large", fix)
    return number


def _unknown(column: Column, row: int, name: str, labels: Sequence[str]) -> DataError:
    alike = [label for label in labels if label.casefold() == name.casefold()]
    near = alike or difflib.get_close_matches(name, labels, n=1)
    guess = f"Did you mean {near[0]!r}? " if near else ""
    known = ", ".join(labels[:20]) + (f" … ({len(labels):,} in all)" if len(labels) > 20 else "")
    return column.error(row, f"the label {name!r} is not one of this task's", f"{guess}Known are: {known}")
