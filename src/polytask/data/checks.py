"""What a careful colleague would say about the data before training: notes, not refusals.

Each function looks at one thing and gives whole sentences, or none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from polytask.data.label_lists import SEPARATOR, list_in
from polytask.data.labels import SCORE_NAMES, is_empty, is_number, is_whole, label_counts, meant
from polytask.data.table import Column, Table
from polytask.data.task import Kind, Rows, Target

_LOOKS_MISSING = {"nan", "na", "n/a", "#n/a", "null"}
_MANY_CLASSES = 20
_IF_SEVERAL = "If rows may have several labels, ask for --kind multilabel."
_IF_SCORES = "If they are scores, ask for --kind regression."


def on_pairs(text: str, pair: str | None) -> list[str]:
    """That two columns are read where none was named."""
    if pair is None:
        return []
    return [f"Each text is a pair, {text!r} with {pair!r}. To read only one of them, name it with --text."]


def on_dropped(before: Table, after: Table) -> list[str]:
    """How many rows were left out for being empty."""
    dropped = len(before) - len(after)
    if not dropped:
        return []
    return [f"{before.file}: {_rows(dropped, 'was', 'were')} left out for an empty text or label."]


def on_kind(column: Column, kind: Kind, labels: Sequence[str], targets: Sequence[Target]) -> list[str]:
    """Where the labels may have been meant as another kind of task than they were taken for."""
    if kind == "classification" and all(map(is_whole, labels)):
        return _on_whole_numbers(column, labels)
    if kind == "classification" and all(map(is_number, labels)):
        few = f"The {len(labels)} different numbers in column {column.name!r} recur, and are taken for classes"
        return [f"{few}: {', '.join(labels[:5])}{', …' if len(labels) > 5 else ''}. {_IF_SCORES}"]
    if kind == "classification" and len(labels) > max(_MANY_CLASSES, len(targets) // 10):
        many = f"There are {len(labels):,} different labels in {len(targets):,} rows."
        return [f"{many} If {column.name!r} is not the column of labels, name it with --label."]
    if kind == "regression" and all(target.is_integer() for target in targets) and len(set(targets)) <= _MANY_CLASSES:
        few = f"The {len(set(targets))} different numbers in column {column.name!r} are whole, and taken for scores."
        return [f"{few} If they are classes, ask for --kind classification."]
    return []


def on_several(column: Column, kind: Kind) -> list[str]:
    """Where what may be several labels was taken for one name, or the reverse."""
    if kind not in ("classification", "multilabel"):
        return []
    written = [cell.strip() for cell in column.cells if isinstance(cell, str) and not is_empty(cell)]
    lists = [cell for cell in written if isinstance(list_in(cell), list)]
    joined = [cell for cell in written if SEPARATOR in cell]
    if kind == "multilabel" and lists:
        example = f"{lists[0][:60]!r} in column {column.name!r} is taken for a list of labels."
        return [f"{example} If it is one name, ask for --kind classification."]
    notes = []
    if lists:
        what = f"{_rows(len(lists), 'has', 'have')} a list such as {lists[0][:60]!r} in the label, taken for a name"
        notes.append(f"{what}, as most rows have none. {_IF_SEVERAL}")
    if joined and kind == "multilabel":
        some = f"{_rows(len(joined), 'has', 'have')} a {SEPARATOR!r} in the label, so each row may have several labels."
        notes.append(f"{some} If it is part of a name, ask for --kind classification.")
    elif joined:
        some = f"{_rows(len(joined), 'has', 'have')} a {SEPARATOR!r} in the label, such as {joined[0][:60]!r}."
        notes.append(f"{some} It is part of the name, because its parts occur in no other label. {_IF_SEVERAL}")
    return notes


def _on_whole_numbers(column: Column, labels: Sequence[str]) -> list[str]:
    """Classes are mostly few and counted from 0, scores have telling names or are counted from 1."""
    if meant(column, "classification").cells is not column.cells:
        names = f"{', '.join(labels[:5])}{', …' if len(labels) > 5 else ''}"
        what = f"The {len(labels):,} different numbers in column {column.name!r} are whole, and taken for classes"
        return [f"{what}: {names}. {_IF_SCORES}"]
    is_called_score = column.name.lower() in SCORE_NAMES and len(labels) > 2
    is_counted_from_other = len(labels) >= 5 and int(labels[0]) != 0
    if not (is_called_score or is_counted_from_other or len(labels) > _MANY_CLASSES):
        return []
    what = f"The {len(labels):,} whole numbers in column {column.name!r} ({labels[0]} to {labels[-1]})"
    return [f"{what} are taken for classes without an order. {_IF_SCORES}"]


def on_positive(metric: str, labels: Sequence[str]) -> list[str]:
    """Which label an F1 is about that looks at one of two."""
    if metric != "f1" or len(labels) != 2:
        return []
    return [f"f1 is that of the label {labels[1]!r}, the second of two. To have it of {labels[0]!r}: --positive"]


def on_labels(column: Column, kind: Kind, labels: Sequence[str], targets: Sequence[Target]) -> list[str]:
    """Labels that may be one label spelled in two ways, or no label at all."""
    notes = []
    padded = sum(isinstance(cell, str) and cell != cell.strip() for cell in column.cells)
    if padded:
        notes.append(f"{_rows(padded, 'has', 'have')} spaces around the label. They were taken off.")
    capital = sorted({cell.strip() for cell in column.cells if isinstance(cell, str)} - {*labels, ""})
    if kind == "classification" and set(labels) == {"true", "false"} and capital:
        notes.append(f"{_listed(capital)} in column {column.name!r} are read as 'true' and 'false', as in all formats.")
    alike: dict[str, list[str]] = defaultdict(list)
    for label in labels:
        alike["".join(label.casefold().split())].append(label)
    notes += [
        f"The labels {_listed(names)} differ only in case or spaces, and count as different. "
        "If they are meant as one, spell them alike."
        for names in alike.values()
        if len(names) > 1
    ]
    counts = label_counts(kind, targets)
    notes += [
        f"{_rows(counts[index], 'has', 'have')} the label {label!r}. If it means that there is none, take them out."
        for index, label in enumerate(labels)
        if label.lower() in _LOOKS_MISSING
    ]
    unlabelled = sum(not target for target in targets) if kind == "multilabel" else 0
    if unlabelled:
        notes.append(f"{_rows(unlabelled, 'has', 'have')} none of the labels.")
    return notes


def on_texts(rows: Rows) -> list[str]:
    """Texts that are what a program writes for a missing one."""
    missing = sum(text.strip().lower() in _LOOKS_MISSING for text in rows.texts)
    if not missing:
        return []
    return [f"{_rows(missing, 'has', 'have')} a text such as 'nan' or 'null'. If it is missing there, take them out."]


def on_rare_labels(kind: Kind, labels: Sequence[str], train: Sequence[Target], held_out: Sequence[Target]) -> list[str]:
    """Labels that no validation row has, because there are too few rows of each."""
    if kind not in ("classification", "multilabel"):
        return []
    trained, validated = label_counts(kind, train), label_counts(kind, held_out)
    rare = [label for index, label in enumerate(labels) if trained[index] and not validated[index]]
    if not rare:
        return []
    if all(trained[index] == 1 for index, label in enumerate(labels) if label in rare):
        return [f"Only one row each has the label {_listed(rare)}: it is trained on, and not validated."]
    have = "the label has" if len(rare) == 1 else "the labels have"
    return [f"{_listed(rare)}: {have} too few rows to hold one out, so no validation row asks for it."]


def on_overlap(train: Rows, other: Rows, name: str) -> list[str]:
    """Rows that are asked for in ``other`` and were trained on."""
    seen = set(_keys(train))
    count = sum(key in seen for key in _keys(other))
    if not count:
        return []
    share = f"{count:,} of {len(other):,} {name} rows ({100 * count / len(other):.1f}%)"
    return [f"{share} have a text that is in the training rows too, so the {name} score may be too good."]


def on_contexts(train: Rows, other: Rows, name: str) -> list[str]:
    """Questions in ``other`` about contexts that were trained on."""
    seen = set(train.pairs or ())
    count = sum(context in seen for context in other.pairs or ())
    if not count:
        return []
    share = f"{count:,} of {len(other):,} {name} questions"
    return [f"{share} have a context that training questions have too, so the {name} score may be too good."]


def _keys(rows: Rows) -> Sequence[object]:
    return rows.texts if rows.pairs is None else list(zip(rows.texts, rows.pairs))


def _rows(count: int, one: str, more: str) -> str:
    return f"1 row {one}" if count == 1 else f"{count:,} rows {more}"


def _listed(names: Sequence[str], most: int = 5) -> str:
    shown = [repr(name) for name in names[:most]]
    if len(names) > most:
        return f"{', '.join(shown)} and {len(names) - most:,} more"
    return f"{', '.join(shown[:-1])} and {shown[-1]}" if len(shown) > 1 else shown[0]
