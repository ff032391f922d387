"""Tasks from files of texts and labels, and from rows that a program holds already.

Everything that can be found out is found out from the data: columns from their names, the kind of task from
the labels, validation rows by a seeded split. Everything found can be overruled, and nothing doubtful passes
in silence: what cannot be used is refused with file, line and column, what merely looks odd becomes a note.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from polytask.data import checks
from polytask.data.columns import ROLES
from polytask.data.columns import roles_in as roles_in
from polytask.data.in_memory import called, is_path, splits_in, table_from
from polytask.data.labels import check_variety, infer_kind, is_empty, meant, names_in, positive_last, spelled
from polytask.data.metric_names import check_metric, default_metric
from polytask.data.source import Source
from polytask.data.splits import hold_out, hold_out_groups
from polytask.data.table import PathLike, Table
from polytask.data.tables import JSON_SUFFIXES, read_table, stem
from polytask.data.task import Kind, Rows, Task
from polytask.errors import DataError, UnknownName

FILE_KINDS: tuple[Kind, ...] = ("classification", "multilabel", "regression", "span")
"""The kinds of task that a column of labels, or of answers, can make."""

_VALIDATION = ("validation", "dev", "valid", "val", "validation_matched")
_TEST = ("test", "test_matched")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Asked:
    """What a user may ask for; where it is ``None``, the data decide. Told in ``read_task``."""

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
    """The rows of a file to be answered.

    ``table`` has all their columns, row for row with ``rows``. ``labels`` is the label column as strings, several
    labels joined by ``|``, ``""`` for none; it is ``None`` where there is no such column.
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
    """Read a task from a file, or from rows as a program holds them.

    >>> read_task("spam.csv")
    >>> read_task(frame, "spam", text="message", label="kind")
    >>> read_task((texts, labels), "spam")

    Labels are words or numbers as they are; nothing is to be mapped to indices.

    Args:
        data: the training rows: a CSV, TSV, JSON lines or Parquet file, SQuAD's JSON for spans; a DataFrame of pandas
            or polars, a pyarrow Table, a ``datasets.Dataset``, a list of dicts, a dict of columns; or two columns
            ``(texts, labels)``: lists, Series, arrays. A ``DatasetDict``, or a dict of tables, has them in ``train``,
            and may have ``validation`` and ``test``.
        name: the task's name; of a file, by default its name without its ending.
        text: the column of texts; by default the one with a usual name (``polytask.data.columns``).
        text_pair: the column of second texts. By default two columns with a usual pair of names make a task of
            pairs, unless ``text`` is given.
        label: the column of labels; by default the one with a usual name. Of spans, the column of answers
            (``polytask.data.answers``).
        validation: rows with the same columns, held in any of these ways; by default a part of the training rows is
            held out, of spans by whole articles (a column ``title``) or contexts.
        test: rows with the same columns.
        kind: ``classification``, ``multilabel``, ``regression`` or ``span``; by default what the labels look like
            (``polytask.data.labels``), never ``span``.
        metric: a name in ``polytask.evaluation.metrics.METRICS``; by default accuracy, micro F1, Pearson or span F1.
        seed: chooses the rows that are held out.
        validation_share: the part of the rows that is held out (``polytask.data.splits``), at most 2,000 rows.
        drop_empty: leave out rows without a text or a label, instead of refusing them.
        encoding: what text files are written in, ``cp1252`` say; by default UTF-8.
        positive: of two labels the one that the metric ``f1`` is about, which gets the index 1; by default the second.

    Raises:
        DataError: the data cannot be used; the message says where and why.
        UnknownName: there is no such kind or metric.
        RecipeError: the metric does not fit the kind, or the share is not between 0 and 1.
    """
    asked = Asked(text, text_pair, label, kind, metric, seed, validation_share, drop_empty, positive)
    if not is_path(data) and (splits := splits_in(data)) is not None:
        if validation is not None or test is not None:
            fix = "Leave out validation= and test=, or give the training rows alone"
            raise DataError(f"a {type(data).__name__} has its own splits", fix=fix)
        return task_from_splits(_name(data, name), splits, called(data), asked)
    train = table_of(data, kind, encoding=encoding)
    return task_from_tables(
        _name(data, name),
        train,
        None if validation is None else table_of(validation, kind, encoding=encoding),
        None if test is None else table_of(test, kind, encoding=encoding),
        asked,
    )


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
    """Read texts to be answered. A column of labels is read if there is one, and need not make sense.

    With ``keep_empty`` a missing text is an empty string, for whoever answers to say so in its place. Other
    arguments and errors are those of ``read_task``; a table that was read already will do.
    """
    table = table_of(path, kind, labelled=False, encoding=encoding)
    roles = roles_in(table, kind, text=text, text_pair=text_pair, label=label, needs_label=False)
    source = Source(table, roles)
    if drop_empty:
        source = source.without_empty(None)
    labels = None if source.roles.label is None else tuple(map(spelled, source.label.cells))
    return FileRows(source.table, source.texts(keep_empty=keep_empty), labels)


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
    """Read labelled rows of a task whose labels are known already, to score its answers.

    Args:
        labels: the names of the task's labels in the order of their indices.
        kind: the kind of the task.
        path: the file, or what was read of it; the remaining arguments are those of ``read_task``.

    Raises:
        DataError: the data cannot be used, or have a label that is not among ``labels``.
    """
    table = table_of(path, kind, encoding=encoding)
    source = Source(table, roles_in(table, kind, text=text, text_pair=text_pair, label=label))
    if drop_empty:
        source = source.without_empty(kind)
    return source.labelled(kind, labels)


def task_from_tables(
    name: str,
    train: Table,
    validation: Table | None,
    test: Table | None,
    asked: Asked,
    remarked: Sequence[str] = (),
) -> Task:
    """Make a task of tables, wherever they come from.

    Args:
        name: the task's name.
        train: the training rows; they decide columns, kind and labels.
        validation: rows with the same columns; ``None`` to hold out some of ``train``.
        test: rows with the same columns.
        asked: what the user asked for.
        remarked: notes that were made while the tables were read.

    Raises:
        PolytaskError: as ``read_task``.
    """
    check_name(name)
    roles = roles_in(train, asked.kind, text=asked.text, text_pair=asked.text_pair, label=asked.label)
    source = Source(train, roles)
    kind = _kind(source, asked)
    metric = default_metric(kind) if asked.metric is None else check_metric(asked.metric, kind)
    notes = list(remarked)
    if kind != "span" and asked.text is None and asked.text_pair is None:
        notes += checks.on_pairs(*source.names[:2])

    def complete(table: Table) -> Source:
        whole = source.like(table)
        if not asked.drop_empty:
            return whole
        kept = whole.without_empty(kind)
        notes.extend(checks.on_dropped(whole.table, kept.table))
        return kept

    source = complete(train)
    known = () if kind in ("regression", "span") else tuple(train.classes.get(source.label.name, ()))
    labels = known or names_in(meant(source.label, kind), kind)
    if asked.positive is not None:
        labels = positive_last(labels, kind, asked.positive)
    given = source.labelled(kind, labels)
    assert given.targets is not None
    check_variety(source.label, kind, given.targets, labels)
    test_rows = None if test is None else complete(test).labelled(kind, labels)
    if validation is None:
        train_rows, validation_rows = _held_out(source, given, kind, asked)
        notes += checks.on_rare_labels(kind, labels, train_rows.targets or (), validation_rows.targets or ())
    else:
        train_rows, validation_rows = given, complete(validation).labelled(kind, labels)

    if asked.kind is None and not known:
        notes += checks.on_kind(source.label, kind, labels, given.targets) + checks.on_several(source.label, kind)
    if asked.positive is None:
        notes += checks.on_positive(metric, labels)
    notes += checks.on_labels(source.label, kind, labels, given.targets) + checks.on_texts(given)
    notes += checks.on_overlap(train_rows, validation_rows, "validation")
    notes += [] if test_rows is None else checks.on_overlap(train_rows, test_rows, "test")
    if kind == "span":
        notes += checks.on_contexts(train_rows, validation_rows, "validation")
        notes += [] if test_rows is None else checks.on_contexts(train_rows, test_rows, "test")
    columns = dict(zip(ROLES, source.names))
    return Task(name, kind, labels, metric, train_rows, validation_rows, test_rows, tuple(notes), columns)


def task_from_splits(name: str, splits: Mapping[str, Any], file: str, asked: Asked) -> Task:
    """Make a task of the splits ``train``, ``validation`` and ``test`` of a data set, which ``table_from`` takes.

    A split whose rows have no labels, as the test rows of GLUE, is left out with a note.

    Args:
        name: the task's name.
        splits: rows by the name of their split.
        file: what errors call the data set.
        asked: what the user asked for.

    Raises:
        PolytaskError: there is no split ``train``; or as ``read_task``.
    """
    if "train" not in splits:
        raise DataError(f"there is no split 'train'. There are: {', '.join(map(str, splits))}", file=file)
    train = table_from(splits["train"], f"{file}[train]")
    roles = roles_in(train, asked.kind, text=asked.text, text_pair=asked.text_pair, label=asked.label)
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

    return task_from_tables(name, train, labelled(_VALIDATION), labelled(_TEST), asked, notes)


def _is_unlabelled(table: Table, label: str) -> bool:
    return label not in table.header or all(cell is None for cell in table.column(table.header.index(label)).cells)


def check_name(name: str) -> None:
    """Refuse what is not a plain name: 1 to 64 letters, digits, dots, dashes and underscores.

    Raises:
        DataError: it is not one.
    """
    if not _PLAIN_NAME.fullmatch(name):
        fix = "Give one with --task: up to 64 letters A to Z, digits, '.', '_' and '-', the first a letter or digit"
        raise DataError(f"{name[:80]!r} cannot be the name of a task", fix=fix)


def _kind(source: Source, asked: Asked) -> Kind:
    if asked.kind is None:
        if source.label.name in source.table.classes:
            return "multilabel" if any(isinstance(cell, list) for cell in source.label.cells) else "classification"
        column = meant(source.label, None)
        return infer_kind([cell for cell in column.cells if not is_empty(cell)], column.name)
    if asked.kind not in FILE_KINDS:
        raise UnknownName("kind of task in files", asked.kind, FILE_KINDS)
    return asked.kind


def _held_out(source: Source, rows: Rows, kind: Kind, asked: Asked) -> tuple[Rows, Rows]:
    share, seed = asked.validation_share, asked.seed
    if kind == "span":
        kept, held_out = hold_out_groups(source.articles(), share=share, seed=seed)
    else:
        kept, held_out = hold_out(rows, kind, share=share, seed=seed)
    if not held_out:
        fix = "Add rows, or name a file of validation rows with --validation"
        problem = "there is one question" if kind == "span" else "no label has two rows"
        raise DataError(f"{problem}, so none can be held out for validation", file=source.table.file, fix=fix)
    return rows.take(kept), rows.take(held_out)


def table_of(path: PathLike | Any, kind: Kind | None, *, labelled: bool = True, encoding: str | None = None) -> Table:
    """What a task of this kind reads of a file: of spans SQuAD's JSON too, with its answers if they are to be read.

    Rows with nothing in any cell are passed over where rows are to be labelled. A table that was read already is given
    back; rows that are held otherwise are read by ``table_from``. Errors are those of ``read_table``, ``table_from``
    and ``squad_table``.
    """
    if isinstance(path, Table):
        return path
    if not is_path(path):
        table = table_from(path)
        return table.without_blank() if labelled else table
    if kind == "span" and str(path).lower().endswith(JSON_SUFFIXES):
        if encoding is not None:
            raise DataError("SQuAD's JSON is UTF-8", file=path, fix="Leave out --encoding")
        from polytask.data.squad_json import squad_table

        return squad_table(path, labelled=labelled)
    table = read_table(path, encoding)
    return table.without_blank() if labelled else table
