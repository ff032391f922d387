"""The rows that a verb is given: to train on, from a file or the hub; to answer, by the columns of the training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from polytask.cli import console
from polytask.errors import DataError

if TYPE_CHECKING:
    from polytask.adapters.store import Entry
    from polytask.data.table import Table
    from polytask.data.task import Rows, Task


def task_given(
    file: str | None, hub: str | None, validation: str | None, test: str | None, encoding: str | None, **asked: Any
) -> Task:
    """The task in a file or a data set of the hub; what is noted about it goes to stderr.

    Raises:
        DataError: not one source is named, or its data cannot be used.
    """
    from polytask.data.hub import read_hub
    from polytask.data.read import read_task

    if (file is None) == (hub is None):
        raise DataError("name one thing to train on: a file, or a data set with --hub owner/name:configuration")
    if hub is not None and (validation or test):
        raise DataError("--validation and --test name files", fix="A data set of the hub has its own splits")
    if hub is not None and encoding:
        raise DataError("--encoding is about files", fix="Leave it out with --hub")
    if hub is not None:
        data = read_hub(hub, **asked)
    else:
        data = read_task(file or "", validation=validation, test=test, encoding=encoding, **asked)
    console.notes(console.terminal(stderr=True), data.notes)
    return data


def columns_of(
    entries: Sequence[Entry], table: Table, *, text: str | None, text_pair: str | None, **labels: str | None
) -> dict[str, str | None]:
    """The columns to read: those named, else those that the adapters were trained on, else None for the usual names.

    ``labels`` is ``label=…`` where labels are needed. Where adapters remember different columns, none is taken. That a
    column of the training is not there is told on stderr.
    """
    chosen, remarks = _chosen(entries, table, text=text, text_pair=text_pair, **labels)
    console.notes(console.terminal(stderr=True), remarks)
    return chosen


def rows_to_score(
    entries: Sequence[Entry],
    file: str,
    columns: Mapping[str, str | None],
    *,
    drop_empty: bool,
    encoding: str | None,
) -> Rows:
    """Labelled rows of a file for adapters with the same labels; ``columns`` are those named, or None.

    Raises:
        DataError: the file has not what the adapters take, or a label that is none of theirs.
    """
    from polytask.data.read import rows_for, table_of

    head = entries[0].header.head
    table = table_of(file, head.kind, encoding=encoding)
    chosen, remarks = _chosen(entries, table, **columns)
    check_inputs_in(table, entries, chosen)
    console.notes(console.terminal(stderr=True), remarks)
    return rows_for(head.labels, head.kind, table, **chosen, drop_empty=drop_empty)


def check_inputs_in(table: Table, entries: Sequence[Entry], columns: Mapping[str, str | None]) -> None:
    """Refuse a file of single texts for a task of pairs, and the reverse, before its labels are looked at.

    Raises:
        DataError: with the option that is missing.
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
            raise DataError(f"{entry} answers single texts, and {names} is a pair", file=table.file, fix=fix)
        own = _remembered(entry)
        trained_on = f", as {own['text_pair']!r} in training" if own.get("text_pair") else ""
        problem = f"{entry} answers pairs of texts, and there is no second text beside {table.header[roles.text]!r}"
        raise DataError(problem, file=table.file, fix=f"Name its column with --text-pair{trained_on}")


def _chosen(
    entries: Sequence[Entry], table: Table, *, text: str | None, text_pair: str | None, **labels: str | None
) -> tuple[dict[str, str | None], list[str]]:
    """See ``columns_of``; with what is to be told."""
    of = [_remembered(entry) for entry in entries]
    texts = {name: _common([columns.get(name) for columns in of]) for name in ("text", "text_pair")}
    chosen: dict[str, str | None] = {"text": text, "text_pair": text_pair, **labels}
    missing: list[str] = []
    if text is None and text_pair is None and texts["text"] is not None:
        missing = [name for name in texts.values() if name is not None and not _has(table, name)]
        chosen |= {} if missing else texts
    if "label" in labels and labels["label"] is None:
        label = _common([columns.get("label") for columns in of])
        if label is None or _has(table, label):
            chosen["label"] = label
        else:
            missing.append(label)
    if not missing:
        return chosen, []
    names = f"column{'s' * (len(missing) > 1)} {', '.join(map(repr, missing))}"
    usual = "'question' and 'context'" if entries[0].header.head.kind == "span" else "'text' and 'label'"
    found = f"columns are looked for by their usual names, such as {usual}"
    return chosen, [f"{table.file} has no {names}, which {entries[0]} was trained on, so {found}"]


def _remembered(entry: Entry) -> dict[str, str | None]:
    """The columns in an adapter's header, which may be a stranger's."""
    columns = entry.header.result.get("columns")
    if not isinstance(columns, Mapping) or not isinstance(columns.get("text"), str):
        return {}
    return {str(role): name for role, name in columns.items() if name is None or isinstance(name, str)}


def _common(names: Sequence[str | None]) -> str | None:
    """The name that all have."""
    return names[0] if len(set(names)) == 1 else None


def _has(table: Table, name: str) -> bool:
    """Whether the table has this column, in capital or small letters, as ``find_roles`` looks for it."""
    return name in table.header or [there.lower() for there in table.header].count(name.strip().lower()) == 1
