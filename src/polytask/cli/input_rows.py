"""Reads the rows that adapters answer: texts of the command line, or a file with the columns used in training."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from os.path import isfile
from typing import TYPE_CHECKING, Any

from polytask.cli import console, wording
from polytask.cli.output import check_output
from polytask.errors import DataError

if TYPE_CHECKING:
    from polytask.adapters.store import Entry
    from polytask.cli.option_groups import ColumnOptions
    from polytask.data.read import FileRows
    from polytask.data.table import Table
    from polytask.data.task import Kind, Rows


def rows_from_arguments(
    texts: Sequence[str] | None, pair: Sequence[str] | None, file_options: Sequence[str | None], on_error: str
) -> Rows:
    """The texts of the command line.

    Args:
        texts: the texts.
        pair: the second text of each text, if there are any.
        file_options: the values of options that are for files; all must be missing.
        on_error: with ``fail`` at least one text must not be empty, with ``null`` all may be empty.

    Raises:
        DataError: there are no texts, the number of pairs differs, or an option for files is given.
    """
    from polytask.data.task import Rows
    from polytask.inference.inputs import check_texts, problem_of

    if any(file_options):
        raise DataError("--output, --text, --text-pair and --encoding are for a file", fix="Name it with --file FILE")
    if not texts:
        raise DataError("there are no texts", fix="Give texts, or a file with --file FILE")
    if pair and len(pair) != len(texts):
        given = f"{wording.counted(len(texts), 'text')} and {wording.counted(len(pair), 'second text')}"
        raise DataError(given, fix="Give one --pair for each text")
    rows = Rows(texts, pair or None)
    if on_error == "fail" and all(map(problem_of, texts_of(rows))):
        check_texts(texts_of(rows))
    if len(texts) == 1 and isfile(texts[0]):
        command = f"polytask predict --file {shlex.quote(texts[0])}"
        raise DataError(f"{texts[0]!r} is a file, not a text", fix=f"To answer its rows: {command}")
    return rows


def rows_from_file(
    file: str,
    output: str | None,
    entries: Mapping[str, Entry],
    columns: Mapping[str, str | None],
    *,
    drop_empty: bool,
    encoding: str | None,
    abstaining: Collection[str] = (),
) -> FileRows:
    """The rows of a file that adapters are to answer.

    Raises:
        DataError: the file cannot be read, or its answers cannot be written to ``output``.
    """
    from polytask.data.read import read_rows, table_of

    kinds: dict[str, Kind] = {reference: entry.header.head.kind for reference, entry in entries.items()}
    kind: Kind | None = "span" if "span" in kinds.values() else None
    table = table_of(file, kind, labelled=False, encoding=encoding)
    chosen = columns_of(list(entries.values()), table, **columns)
    source = read_rows(table, **chosen, kind=kind, drop_empty=drop_empty, keep_empty=True)
    check_output(file, output, source, kinds, abstaining)
    return source


def check_inputs_of(entries: Mapping[str, Entry], texts: Sequence[Any]) -> None:
    """Refuse texts that do not suit a task, before the backbone is loaded.

    Raises:
        DataError: single texts for a task of pairs, the reverse, or tasks of both kinds.
    """
    from polytask.inference.inputs import check_inputs

    takes = {reference: entry.header.takes for reference, entry in entries.items()}
    known = {takes[reference] == "single" for reference in takes if takes[reference] is not None}
    if len(known) > 1:
        single = ", ".join(reference for reference, kind in takes.items() if kind == "single")
        paired = ", ".join(reference for reference, kind in takes.items() if kind not in (None, "single"))
        raise DataError(f"{single} takes single texts and {paired} takes pairs", fix="Ask them separately")
    for reference, kind in takes.items():
        check_inputs(texts, [reference] * len(texts), [reference] * len(texts), [kind] * len(texts))


def texts_of(rows: Rows) -> list[Any]:
    """Texts, or pairs of texts, as ``MultiTask.predict`` takes them."""
    return list(rows.texts) if rows.pairs is None else list(zip(rows.texts, rows.pairs))


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
        DataError: the file does not fit a task; the message has the option that helps.
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
