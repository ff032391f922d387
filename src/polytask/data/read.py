"""Reads tasks from files of texts and labels, and from rows that a program already holds.

Columns are found by their names, the kind of task by the labels, and validation rows by a seeded split; arguments
override all of these. Data that cannot be used raise an error with file, line and column; data that look suspicious
give a note.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from polytask.data import checks
from polytask.data.columns import ROLES
from polytask.data.columns import roles_in as roles_in
from polytask.data.formats import JSON_SUFFIXES, encodings_of, read_table, stem
from polytask.data.in_memory import called, is_path, splits_in, table_from
from polytask.data.labels import (
    check_variety,
    format_label,
    infer_kind,
    is_empty,
    label_names,
    normalize_labels,
    put_positive_last,
)
from polytask.data.metric_names import check_metric, default_metric
from polytask.data.source import Source
from polytask.data.splits import hold_out, hold_out_groups
from polytask.data.table import PathLike, Table
from polytask.data.task import Kind, Rows, Task
from polytask.errors import DataError, UnknownName

FILE_KINDS: tuple[Kind, ...] = ("classification", "multilabel", "regression", "span")
"""The kinds of task that can be read from a table."""

_VALIDATION = ("validation", "dev", "valid", "val", "validation_matched")
_TEST = ("test", "test_matched")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class ReadOptions:
    """The arguments of ``read_task`` that say how to read a table; ``None`` means: infer it from the data."""

    text: str | None = None
    text_pair: str | None = None
    label: str | None = None
    kind: Kind | None = None
    metric: str | None = None
    seed: int = 0
    validation_share: float = 0.1
    drop_empty: bool = False
    positive: str | None = None


@dataclass(frozen=True)
class FileRows:
    """The rows of a file to predict.

    Attributes:
        table: all columns of these rows.
        rows: their texts, in the same order.
        labels: the label column as strings, with several labels joined by ``|`` and ``""`` for none; ``None`` if there
            is no label column.
    """

    table: Table
    rows: Rows
    labels: tuple[str, ...] | None


def read_task(
    data: PathLike | Any,
    name: str | None = None,
    *,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | None = None,
    validation: PathLike | Any = None,
    test: PathLike | Any = None,
    kind: Kind | None = None,
    metric: str | None = None,
    seed: int = 0,
    validation_share: float = 0.1,
    drop_empty: bool = False,
    encoding: str | None = None,
    positive: str | None = None,
) -> Task:
    """Read a task from a file, or from rows that a program already holds.

    >>> read_task("spam.csv")
    >>> read_task(frame, "spam", text="message", label="kind")
    >>> read_task((texts, labels), "spam")

    Labels are words or numbers as they are; they need no mapping to indices.

    Args:
        data: the training rows: a CSV, TSV, JSON lines or Parquet file, or SQuAD's JSON for spans; a pandas or polars
            DataFrame, a pyarrow Table, a ``datasets.Dataset``, a list of dicts, a dict of columns; or two columns
            ``(texts, labels)`` as lists, Series or arrays. A ``DatasetDict``, or a dict of tables, has them in
            ``train`` and may have ``validation`` and ``test``.
        name: the task's name (default: the file's name without its suffix).
        text: the text column (default: the one with a usual name, see ``polytask.data.columns``).
        text_pair: the second-text column. By default, two columns with a usual pair of names make a task of pairs,
            unless ``text`` is given.
        label: the label column (default: the one with a usual name). For spans, the column of answers
            (``polytask.data.answers``).
        validation: rows with the same columns, in any of these forms (default: hold out some training rows; for
            spans, whole articles by the column ``title``, or whole contexts).
        test: rows with the same columns.
        kind: ``classification``, ``multilabel``, ``regression`` or ``span`` (default: inferred from the labels, see
            ``polytask.data.labels``; never ``span``).
        metric: a name in ``polytask.evaluation.metrics.METRICS`` (default: accuracy, micro F1, Pearson or span F1).
        seed: chooses the rows that are held out.
        validation_share: the fraction of rows that is held out (``polytask.data.splits``), at most 2,000 rows.
        drop_empty: drop rows without a text or label instead of raising an error.
        encoding: the encoding of text files, such as ``cp1252`` (default: UTF-8).
        positive: of two labels, the one that the metric ``f1`` is computed for; it gets index 1 (default: the second).

    Raises:
        DataError: the data cannot be used; the message says where and why.
        UnknownName: there is no such kind or metric.
        RecipeError: the metric does not fit the kind, or the share is not between 0 and 1.
    """
    text, text_pair, label = (None if column is None else str(column) for column in (text, text_pair, label))
    options = ReadOptions(text, text_pair, label, kind, metric, seed, validation_share, drop_empty, positive)
    if not is_path(data) and (splits := splits_in(data)) is not None:
        if validation is not None or test is not None:
            fix = "Leave out validation= and test=, or give the training rows alone"
            raise DataError(f"a {type(data).__name__} has its own splits", fix=fix)
        return task_from_splits(_name(data, name), splits, called(data), options)
    files = (data, validation, test)
    own = encodings_of(files, encoding)
    train, *held = [None if rows is None else table_of(rows, kind, encoding=of) for rows, of in zip(files, own)]
    if train is None:
        raise DataError("there are no training rows: data is None", fix="Give a file's name, or rows in memory")
    return task_from_tables(_name(data, name), train, held[0], held[1], options)


def _name(data: PathLike | Any, name: str | None) -> str:
    """The name of the task that is read from ``data``."""
    if name is not None:
        return name
    if is_path(data):
        return stem(data)
    raise DataError(f"a task made of a {type(data).__name__} needs a name", fix='Give it one: read_task(data, "spam")')


def read_rows(
    path: PathLike | Any,
    *,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | None = None,
    kind: Kind | None = None,
    drop_empty: bool = False,
    keep_empty: bool = False,
    encoding: str | None = None,
) -> FileRows:
    """Read texts to predict. A label column is optional, and its values are not checked.

    Args:
        path: the file, or a table that was read before.
        text: this and the arguments below are those of ``read_task``.
        text_pair: likewise.
        label: likewise.
        kind: likewise.
        drop_empty: likewise.
        keep_empty: return a missing text as an empty string, so that rows keep their numbers.
        encoding: as in ``read_task``.

    Raises:
        DataError: as ``read_task``.
    """
    table = table_of(path, kind, labelled=False, encoding=encoding)
    roles = roles_in(table, kind, text=text, text_pair=text_pair, label=label, needs_label=False)
    source = Source(table, roles)
    if drop_empty:
        source = source.without_empty(None)
    labels = None if source.roles.label is None else tuple(map(format_label, source.label.cells))
    return FileRows(source.table, source.unlabelled_rows(keep_empty=keep_empty), labels)


def rows_for(
    labels: Sequence[str],
    kind: Kind,
    path: PathLike | Any,
    *,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | None = None,
    drop_empty: bool = False,
    encoding: str | None = None,
) -> Rows:
    """Read labelled rows of an existing task, to score its predictions.

    Args:
        labels: the task's label names in the order of their indices.
        kind: the task's kind.
        path: the file, or a table that was read before.
        text: this and the remaining arguments are those of ``read_task``.

    Raises:
        DataError: the data cannot be used, or have a label that is not among ``labels``.
    """
    table = table_of(path, kind, encoding=encoding)
    source = Source(table, roles_in(table, kind, text=text, text_pair=text_pair, label=label))
    if drop_empty:
        source = source.without_empty(kind)
    return source.labelled_rows(kind, labels)


def task_from_tables(
    name: str,
    train: Table,
    validation: Table | None,
    test: Table | None,
    options: ReadOptions,
    notes_on_tables: Sequence[str] = (),
) -> Task:
    """Build a task from tables.

    Args:
        name: the task's name.
        train: the training rows, from which columns, kind and labels are inferred.
        validation: rows with the same columns; ``None`` to hold out some of ``train``.
        test: rows with the same columns.
        options: the user's options.
        notes_on_tables: notes from reading the tables.

    Raises:
        PolytaskError: as ``read_task``.
    """
    check_name(name)
    roles = roles_in(train, options.kind, text=options.text, text_pair=options.text_pair, label=options.label)
    source = Source(train, roles)
    kind = _task_kind(source, options)
    metric = default_metric(kind) if options.metric is None else check_metric(options.metric, kind)
    notes = list(notes_on_tables)
    if kind != "span" and options.text is None and options.text_pair is None:
        notes += checks.check_pairs(*source.names[:2])

    def complete(table: Table) -> Source:
        whole = source.for_table(table)
        if not options.drop_empty:
            return whole
        kept = whole.without_empty(kind)
        notes.extend(checks.check_dropped(whole.table, kept.table))
        return kept

    source = complete(train)
    known = () if kind in ("regression", "span") else tuple(train.classes.get(source.label.name, ()))
    labels = known or label_names(normalize_labels(source.label, kind), kind)
    if options.positive is not None:
        labels = put_positive_last(labels, kind, options.positive)
    given = source.labelled_rows(kind, labels)
    assert given.targets is not None
    check_variety(source.label, kind, given.targets, labels)
    test_rows = None if test is None else complete(test).labelled_rows(kind, labels)
    if validation is None:
        train_rows, validation_rows = _hold_out_validation(source, given, kind, options)
        notes += checks.check_rare_labels(kind, labels, train_rows.targets or (), validation_rows.targets or ())
    else:
        train_rows, validation_rows = given, complete(validation).labelled_rows(kind, labels)

    if options.kind is None and not known:
        notes += checks.check_kind(source.label, kind, labels, given.targets) + checks.check_several_labels(
            source.label, kind
        )
    if options.positive is None:
        notes += checks.check_positive_label(metric, labels)
    notes += checks.check_label_names(source.label, kind, labels, given.targets) + checks.check_texts(given)
    notes += checks.check_overlap(train_rows, validation_rows, "validation")
    notes += [] if test_rows is None else checks.check_overlap(train_rows, test_rows, "test")
    if kind == "span":
        notes += checks.check_context_overlap(train_rows, validation_rows, "validation")
        notes += [] if test_rows is None else checks.check_context_overlap(train_rows, test_rows, "test")
    columns = dict(zip(ROLES, source.names))
    return Task(name, kind, labels, metric, train_rows, validation_rows, test_rows, tuple(notes), columns)


def task_from_splits(name: str, splits: Mapping[str, Any], file: str, options: ReadOptions) -> Task:
    """Build a task from the splits ``train``, ``validation`` and ``test`` of a data set (see ``table_from``).

    A split whose rows have no labels, such as the test rows of GLUE, is left out with a note.

    Args:
        name: the task's name.
        splits: rows by the name of their split.
        file: the name of the data set in error messages.
        options: the user's options.

    Raises:
        PolytaskError: there is no split ``train``; or as ``read_task``.
    """
    if "train" not in splits:
        raise DataError(f"there is no split 'train'. There are: {', '.join(map(str, splits))}", file=file)
    train = table_from(splits["train"], f"{file}[train]")
    roles = roles_in(train, options.kind, text=options.text, text_pair=options.text_pair, label=options.label)
    assert roles.label is not None
    label = train.header[roles.label]
    notes: list[str] = []

    def labelled(names: Sequence[str]) -> Table | None:
        split = next((name for name in names if name in splits), None)
        table = None if split is None else table_from(splits[split], f"{file}[{split}]")
        if table is None or not _is_unlabelled(table, label):
            return table
        notes.append(f"The {split} rows of {file} have no labels and are not used.")
        return None

    return task_from_tables(name, train, labelled(_VALIDATION), labelled(_TEST), options, notes)


def _is_unlabelled(table: Table, label: str) -> bool:
    return label not in table.header or all(cell is None for cell in table.column(table.header.index(label)).cells)


def check_name(name: str) -> None:
    """Check that a task's name has 1 to 64 letters, digits, dots, dashes and underscores.

    Raises:
        DataError: the name is not valid.
    """
    if not _PLAIN_NAME.fullmatch(name):
        fix = "Give one with --task: up to 64 letters A to Z, digits, '.', '_' and '-', the first a letter or digit"
        raise DataError(f"{name[:80]!r} cannot be the name of a task", fix=fix)


def _task_kind(source: Source, options: ReadOptions) -> Kind:
    if options.kind is None:
        if source.label.name in source.table.classes:
            return "multilabel" if any(isinstance(cell, list) for cell in source.label.cells) else "classification"
        column = normalize_labels(source.label, None)
        return infer_kind([cell for cell in column.cells if not is_empty(cell)], column.name)
    if options.kind not in FILE_KINDS:
        raise UnknownName("kind of task in files", options.kind, FILE_KINDS)
    return options.kind


def _hold_out_validation(source: Source, rows: Rows, kind: Kind, options: ReadOptions) -> tuple[Rows, Rows]:
    share, seed = options.validation_share, options.seed
    if kind == "span":
        kept, held_out = hold_out_groups(source.articles(), share=share, seed=seed)
    else:
        kept, held_out = hold_out(rows, kind, share=share, seed=seed)
    if not held_out:
        fix = "Add rows, or pass a file of validation rows with --validation"
        problem = "there is one question" if kind == "span" else "no label has two rows"
        raise DataError(f"{problem}, so none can be held out for validation", file=source.table.file, fix=fix)
    return rows.take(kept), rows.take(held_out)


def table_of(path: PathLike | Any, kind: Kind | None, *, labelled: bool = True, encoding: str | None = None) -> Table:
    """Read the table of a file, which can be SQuAD's JSON if ``kind`` is ``span``, or of rows that a program holds.

    Args:
        path: the file, or rows that ``table_from`` takes; a table is returned unchanged.
        kind: the kind of task.
        labelled: drop rows whose cells are all empty, and read the answers of SQuAD's JSON.
        encoding: as in ``read_task``.

    Raises:
        DataError: as ``read_table``, ``table_from`` and ``squad_table``.
    """
    if isinstance(path, Table):
        return path
    if not is_path(path):
        table = table_from(path)
        return table.without_blank() if labelled else table
    if kind == "span" and str(path).lower().endswith(JSON_SUFFIXES):
        if encoding is not None:
            raise DataError("SQuAD's JSON is UTF-8", file=path, fix="Omit --encoding")
        from polytask.data.squad_json import squad_table

        return squad_table(path, labelled=labelled)
    table = read_table(path, encoding)
    return table.without_blank() if labelled else table
