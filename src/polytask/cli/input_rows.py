"""Reads the rows of a file for adapters, by the columns that they were trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from polytask.cli import console
from polytask.errors import DataError

if TYPE_CHECKING:
    from polytask.adapters.store import Entry
    from polytask.cli.option_groups import ColumnOptions
    from polytask.data.table import Table
    from polytask.data.task import Rows


def columns_of(
    entries: Sequence[Entry], table: Table, *, text: str | None, text_pair: str | None, **labels: str | None
) -> dict[str, str | None]:
    """The columns to read: the given ones, else those used in training, else None to find them by their usual names.

    The columns used in training are read only if they are the same for all adapters. If the file lacks one, a note is
    printed on stderr.

    Args:
        entries: the adapters.
        table: the file.
        text: the column of texts, if it was named.
        text_pair: the column of second texts, if it was named.
        labels: ``label=…`` if labels are needed.
    """
    chosen, remarks = _choose_columns(entries, table, text=text, text_pair=text_pair, **labels)
    console.notes(console.terminal(stderr=True), remarks)
    return chosen


def label_of_examples(entries: Sequence[Entry], given: str | None) -> str | None:
    """The label that means none of the adapters' labels: the given one, else the one used in training, else None.

    Raises:
        DataError: it is one of their labels, or they have no labels.
    """
    from polytask.evaluation.none_of_these import label_of_none

    if given is None:
        return next((own for entry in entries if (own := label_of_none(entry.header.result)) is not None), None)
    for entry in entries:
        if entry.header.head.kind != "classification" or given in entry.labels:
            why = f"{given!r} is one of its labels" if given in entry.labels else "it is not a classifier"
            raise DataError(f"--none-label does not fit {entry}: {why}", fix="Leave it out")
    return given


def rows_to_score(entries: Sequence[Entry], file: str, given: ColumnOptions, none_label: str | None = None) -> Rows:
    """The labelled rows of a file, for adapters with the same labels.

    Args:
        entries: the adapters.
        file: the file.
        given: the columns that were named, and how to read the file.
        none_label: a label that means none of the adapters' labels; its rows get the number of labels as target.

    Raises:
        DataError: the file has no texts or pairs as the adapters need them, or an unknown label.
    """
    from polytask.data.read import rows_for, table_of

    head = entries[0].header.head
    table = table_of(file, head.kind, encoding=given.encoding)
    chosen, remarks = _choose_columns(entries, table, **given.columns)
    check_inputs_in(table, entries, chosen)
    console.notes(console.terminal(stderr=True), remarks)
    labels = [*head.labels, *([] if none_label is None else [none_label])]
    return rows_for(labels, head.kind, table, **chosen, drop_empty=given.drop_empty)


def without_examples(rows: Rows, entry: Entry, none_label: str | None) -> tuple[Rows, Rows]:
    """The rows with a label of the adapter, and those of ``none_label``.

    Raises:
        DataError: all rows have that label.
    """
    from polytask.evaluation.none_of_these import split_off

    if none_label is None:
        return rows, rows.take([])
    kept, examples = split_off(rows, len(entry.labels))
    if not len(kept):
        fix = f"Add rows with the labels of {entry}"
        raise DataError(f"every row has the label {none_label!r}, which means none of these", fix=fix)
    return kept, examples


def check_inputs_in(table: Table, entries: Sequence[Entry], columns: Mapping[str, str | None]) -> None:
    """Refuse single texts for a task of pairs, and the reverse.

    Raises:
        DataError: with the option that would help.
    """
    from polytask.data.read import roles_in

    roles = roles_in(table, entries[0].header.head.kind, **columns, needs_label=False)
    for entry in entries:
        takes = entry.header.takes
        if takes is None or (takes == "single") == (roles.pair is None):
            continue
        if roles.pair is not None:
            names = f"{table.header[roles.text]!r} with {table.header[roles.pair]!r}"
            fix = "Name one column of texts with --text"
            raise DataError(f"{entry} takes single texts, and {names} is a pair", file=table.file, fix=fix)
        own = _trained_columns(entry)
        trained_on = f", as {own['text_pair']!r} in training" if own.get("text_pair") else ""
        problem = f"{entry} takes pairs of texts, and there is no second text beside {table.header[roles.text]!r}"
        raise DataError(problem, file=table.file, fix=f"Name its column with --text-pair{trained_on}")


def _choose_columns(
    entries: Sequence[Entry], table: Table, *, text: str | None, text_pair: str | None, **labels: str | None
) -> tuple[dict[str, str | None], list[str]]:
    """The columns of ``columns_of``, and notes."""
    of = [_trained_columns(entry) for entry in entries]
    texts = {name: _common_name([columns.get(name) for columns in of]) for name in ("text", "text_pair")}
    chosen: dict[str, str | None] = {"text": text, "text_pair": text_pair, **labels}
    missing: list[str] = []
    if text is None and text_pair is None and texts["text"] is not None:
        missing = [name for name in texts.values() if name is not None and not _has(table, name)]
        chosen |= {} if missing else texts
    if "label" in labels and labels["label"] is None:
        label = _common_name([columns.get("label") for columns in of])
        if label is None or _has(table, label):
            chosen["label"] = label
        else:
            missing.append(label)
    if not missing:
        return chosen, []
    names = f"column{'s' * (len(missing) > 1)} {', '.join(map(repr, missing))}"
    usual = "'question' and 'context'" if entries[0].header.head.kind == "span" else "'text' and 'label'"
    found = f"columns are found by their usual names, such as {usual}"
    return chosen, [f"{table.file} has no {names}, which {entries[0]} was trained on, so {found}"]


def _trained_columns(entry: Entry) -> dict[str, str | None]:
    """The columns in an adapter's header. The header may come from anyone, so their types are checked."""
    columns = entry.header.result.get("columns")
    if not isinstance(columns, Mapping) or not isinstance(columns.get("text"), str):
        return {}
    return {str(role): name for role, name in columns.items() if name is None or isinstance(name, str)}


def _common_name(names: Sequence[str | None]) -> str | None:
    """The name, if all are the same."""
    return names[0] if len(set(names)) == 1 else None


def _has(table: Table, name: str) -> bool:
    """Whether the table has this column; as in ``find_roles``, case does not matter if it is unique."""
    return name in table.header or [there.lower() for there in table.header].count(name.strip().lower()) == 1
