"""Data checks before training; they warn and never stop a run.

Each function checks one thing and returns its warnings as whole sentences.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from polytask.data.label_lists import SEPARATOR, parse_list
from polytask.data.labels import SCORE_NAMES, is_empty, is_number, is_whole, label_counts, normalize_labels
from polytask.data.table import Column, Table
from polytask.data.task import Kind, Rows, Target

_LOOKS_MISSING = {"nan", "na", "n/a", "#n/a", "null"}
_MANY_CLASSES = 20
_IF_SEVERAL = "If rows may have several labels, use --kind multilabel."
_IF_SCORES = "If they are scores, use --kind regression."


def check_pairs(text: str, pair: str | None) -> list[str]:
    """Report that a pair of columns was detected."""
    if pair is None:
        return []
    return [f"Each text is a pair, {text!r} with {pair!r}. To read only one of them, give it with --text."]


def check_dropped(before: Table, after: Table) -> list[str]:
    """Report how many rows were dropped because they are empty."""
    dropped = len(before) - len(after)
    if not dropped:
        return []
    return [f"{before.file}: {_count_rows(dropped, 'was', 'were')} dropped because of an empty text or label."]


def check_kind(column: Column, kind: Kind, labels: Sequence[str], targets: Sequence[Target]) -> list[str]:
    """Warn if the labels may belong to another kind of task than the inferred one."""
    if kind == "classification" and all(map(is_whole, labels)):
        return _check_whole_numbers(column, labels)
    if kind == "classification" and all(map(is_number, labels)):
        few = f"The {len(labels)} different numbers in column {column.name!r} repeat and are treated as classes"
        return [f"{few}: {', '.join(labels[:5])}{', …' if len(labels) > 5 else ''}. {_IF_SCORES}"]
    if kind == "classification" and len(labels) > max(_MANY_CLASSES, len(targets) // 10):
        many = f"There are {len(labels):,} different labels in {len(targets):,} rows."
        return [f"{many} If {column.name!r} is not the label column, give the right one with --label."]
    if kind == "regression" and all(target.is_integer() for target in targets) and len(set(targets)) <= _MANY_CLASSES:
        few = f"The {len(set(targets))} different numbers in column {column.name!r} are whole numbers"
        return [f"{few} and treated as scores. If they are classes, use --kind classification."]
    return []


def check_several_labels(column: Column, kind: Kind) -> list[str]:
    """Warn if several labels may have been read as one name, or the reverse."""
    if kind not in ("classification", "multilabel"):
        return []
    written = [cell.strip() for cell in column.cells if isinstance(cell, str) and not is_empty(cell)]
    lists = [cell for cell in written if isinstance(parse_list(cell), list)]
    joined = [cell for cell in written if SEPARATOR in cell]
    if kind == "multilabel" and lists:
        example = f"{lists[0][:60]!r} in column {column.name!r} is read as a list of labels."
        return [f"{example} If it is one name, use --kind classification."]
    notes = []
    if lists:
        some = f"{_count_rows(len(lists), 'has', 'have')} a list such as {lists[0][:60]!r} in the label, read as a name"
        notes.append(f"{some} because most rows have no list. {_IF_SEVERAL}")
    if joined and kind == "multilabel":
        some = f"{_count_rows(len(joined), 'has', 'have')} a {SEPARATOR!r} in the label"
        notes.append(
            f"{some}, so each row may have several labels. If it is part of a name, use --kind classification."
        )
    elif joined:
        some = f"{_count_rows(len(joined), 'has', 'have')} a {SEPARATOR!r} in the label, such as {joined[0][:60]!r}."
        notes.append(f"{some} It is part of the name, because its parts occur in no other label. {_IF_SEVERAL}")
    return notes


def _check_whole_numbers(column: Column, labels: Sequence[str]) -> list[str]:
    """Warn if whole numbers may be scores: by their column's name, their start or their number."""
    if normalize_labels(column, "classification").cells is not column.cells:
        names = f"{', '.join(labels[:5])}{', …' if len(labels) > 5 else ''}"
        what = (
            f"The {len(labels):,} different numbers in column {column.name!r} are whole numbers and treated as classes"
        )
        return [f"{what}: {names}. {_IF_SCORES}"]
    is_called_score = column.name.lower() in SCORE_NAMES and len(labels) > 2
    does_not_start_at_0 = len(labels) >= 5 and int(labels[0]) != 0
    if not (is_called_score or does_not_start_at_0 or len(labels) > _MANY_CLASSES):
        return []
    what = f"The {len(labels):,} whole numbers in column {column.name!r} ({labels[0]} to {labels[-1]})"
    return [f"{what} are treated as classes without an order. {_IF_SCORES}"]


def check_positive_label(metric: str, labels: Sequence[str]) -> list[str]:
    """Say which of two labels the metric ``f1`` is computed for."""
    if metric != "f1" or len(labels) != 2:
        return []
    return [f"f1 is computed for the label {labels[1]!r}, the second of two. Use --positive for {labels[0]!r} instead."]


def check_label_names(column: Column, kind: Kind, labels: Sequence[str], targets: Sequence[Target]) -> list[str]:
    """Warn about labels that may be two spellings of one label, or may mean a missing label."""
    notes = []
    padded = sum(isinstance(cell, str) and cell != cell.strip() for cell in column.cells)
    if padded:
        notes.append(f"{_count_rows(padded, 'has', 'have')} spaces around the label. They were removed.")
    capital = sorted({cell.strip() for cell in column.cells if isinstance(cell, str)} - {*labels, ""})
    if kind == "classification" and set(labels) == {"true", "false"} and capital:
        notes.append(
            f"{_list_names(capital)} in column {column.name!r} are read as 'true' and 'false', as in all formats."
        )
    alike: dict[str, list[str]] = defaultdict(list)
    for label in labels:
        alike["".join(label.casefold().split())].append(label)
    notes += [
        f"The labels {_list_names(names)} differ only in case or spaces and count as different labels. "
        "If they are the same label, spell them alike."
        for names in alike.values()
        if len(names) > 1
    ]
    counts = label_counts(kind, targets)
    notes += [
        f"{_count_rows(counts[index], 'has', 'have')} the label {label!r}. If it means a missing label, remove them."
        for index, label in enumerate(labels)
        if label.lower() in _LOOKS_MISSING
    ]
    unlabelled = sum(not target for target in targets) if kind == "multilabel" else 0
    if unlabelled:
        notes.append(f"{_count_rows(unlabelled, 'has', 'have')} none of the labels.")
    return notes


def check_texts(rows: Rows) -> list[str]:
    """Warn about texts such as ``nan`` or ``null``, which programs write for a missing text."""
    missing = sum(text.strip().lower() in _LOOKS_MISSING for text in rows.texts)
    if not missing:
        return []
    return [
        f"{_count_rows(missing, 'has', 'have')} a text such as 'nan' or 'null'. If it is a missing text, remove them."
    ]


def check_rare_labels(
    kind: Kind, labels: Sequence[str], train: Sequence[Target], held_out: Sequence[Target]
) -> list[str]:
    """Warn about labels with too few rows to have one in the validation rows."""
    if kind not in ("classification", "multilabel"):
        return []
    trained, validated = label_counts(kind, train), label_counts(kind, held_out)
    rare = [label for index, label in enumerate(labels) if trained[index] and not validated[index]]
    if not rare:
        return []
    if all(trained[index] == 1 for index, label in enumerate(labels) if label in rare):
        has = "Only one row has the label" if len(rare) == 1 else "Only one row has each of the labels"
        return [f"{has} {_list_names(rare)}. It is used for training, so no validation row has this label."]
    have = "the label has" if len(rare) == 1 else "the labels have"
    return [f"{_list_names(rare)}: {have} too few rows to hold one out, so no validation row has this label."]


def check_overlap(train: Rows, other: Rows, name: str) -> list[str]:
    """Warn about rows of ``other`` whose texts are also in the training rows."""
    seen = set(_keys(train))
    count = sum(key in seen for key in _keys(other))
    if not count:
        return []
    share = f"{count:,} of {len(other):,} {name} rows ({100 * count / len(other):.1f}%)"
    return [f"{share} have a text that is also in the training rows, so the {name} score may be too high."]


def check_context_overlap(train: Rows, other: Rows, name: str) -> list[str]:
    """Warn about questions in ``other`` whose contexts are also in the training rows."""
    seen = set(train.pairs or ())
    count = sum(context in seen for context in other.pairs or ())
    if not count:
        return []
    share = f"{count:,} of {len(other):,} {name} questions"
    return [f"{share} have a context that training questions also have, so the {name} score may be too high."]


def _keys(rows: Rows) -> Sequence[object]:
    return rows.texts if rows.pairs is None else list(zip(rows.texts, rows.pairs))


def _count_rows(count: int, one: str, more: str) -> str:
    return f"1 row {one}" if count == 1 else f"{count:,} rows {more}"


def _list_names(names: Sequence[str], most: int = 5) -> str:
    shown = [repr(name) for name in names[:most]]
    if len(names) > most:
        return f"{', '.join(shown)} and {len(names) - most:,} more"
    return f"{', '.join(shown[:-1])} and {shown[-1]}" if len(shown) > 1 else shown[0]
