"""Converts rows in memory to tables: data frames, Arrow tables, data sets and lists.

>>> table_from([{"text": "good", "label": "positive"}, {"text": "bad", "label": "negative"}]).header
('text', 'label')
>>> table_from((["good", "bad"], ["positive", "negative"])).rows
[('good', 'positive'), ('bad', 'negative')]

Objects are recognized by the names of their classes, so no library is imported unless the object comes from it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from polytask.data.parquet import arrow_columns
from polytask.data.table import Cell, Table, class_name
from polytask.errors import DataError

Columns = Mapping[str, Sequence[Cell]]
Classes = Mapping[str, Sequence[str]]

TEXT, PAIR, LABEL = "text", "text_pair", "label"
"""The names of the columns made from two lists."""

ACCEPTED = (
    "a file named by its path, a DataFrame of pandas or polars, a pyarrow Table, a Dataset or DatasetDict, a list of "
    "dicts, a dict of columns, or two lists (texts, labels)"
)


def is_path(data: Any) -> bool:
    """Whether ``data`` is the path of a file."""
    return isinstance(data, str | os.PathLike)


def is_table(data: Any) -> bool:
    """Whether ``data`` has named columns, or is two lists (texts, labels)."""
    return (
        _reader(data, _TABLES) is not None
        or _is_records(data)
        or (isinstance(data, tuple) and len(data) == 2 and all(map(_is_column, data)))
        or (isinstance(data, Mapping) and bool(data) and all(map(_is_column, data.values())))
    )


def is_stream(data: Any) -> bool:
    """Whether ``data`` yields rows one by one: an iterator, a generator or an ``IterableDataset``."""
    return isinstance(data, Iterator) or _of_class(data, ("datasets", "IterableDataset"))


def called(data: Any) -> str:
    """The name of ``data`` in error messages: ``<DataFrame>``."""
    return f"<{type(data).__name__}>"


def splits_in(data: Any) -> dict[str, Any] | None:
    """The splits of a ``DatasetDict``, or of a dict of tables, by name; None for anything else."""
    if not isinstance(data, Mapping) or not data:
        return None
    tables = dict(data)
    return tables if all(_reader(table, _TABLES) or _is_records(table) for table in tables.values()) else None


def table_from(data: Any, file: str | None = None) -> Table:
    """Convert an object to a table. The line of a row is its number, counted from 1.

    Args:
        data: a DataFrame of pandas or polars, a pyarrow ``Table`` or ``RecordBatch``, a ``datasets.Dataset``, a
            sequence of dicts, a dict of columns, or ``(texts, labels)``, where a text may be a pair of texts.
        file: the name of the table in error messages (default: the name of the object's class).

    Raises:
        DataError: ``data`` is none of these, columns differ in length or share a name, or there are no rows.
    """
    file = called(data) if file is None else file
    columns, classes = _columns_of(data)
    lengths = {name: len(cells) for name, cells in columns.items()}
    if len({*lengths.values()}) > 1:
        found = " and ".join(f"{length:,} in {name!r}" for name, length in lengths.items())
        raise DataError(f"columns differ in length: {found}", file=file, fix="Give each one cell per row")
    rows = list(zip(*columns.values()))
    if not rows:
        raise DataError("there are no rows", file=file, fix="Give at least one row")
    return Table(file, tuple(columns), rows, range(1, len(rows) + 1), classes)


def cells_of(column: Any) -> list[Cell]:
    """The cells of a list, Series, array or column of a data set as plain Python values; None for a missing cell."""
    read = _reader(column, _COLUMNS)
    return [plain(cell) for cell in (column if read is None else read(column))]


def plain(cell: Cell) -> Cell:
    """Convert a NumPy scalar or array to a number or a list; return any other cell unchanged."""
    if cell is None or type(cell) in (str, int, float, bool):
        return cell
    return cell.tolist() if _of_class(cell, ("numpy", "generic"), ("numpy", "ndarray")) else cell


def _columns_of(data: Any) -> tuple[Columns, Classes]:
    read: Callable[[Any], tuple[Columns, Classes]] | None = _reader(data, _TABLES)
    if read is not None:
        return read(data)
    if _is_records(data):
        header = dict.fromkeys(key for row in data for key in row)
        return {str(key): [plain(row.get(key)) for row in data] for key in header}, {}
    if isinstance(data, Mapping) and is_table(data):
        return {str(name): cells_of(column) for name, column in data.items()}, {}
    if is_table(data):
        return _of_two_lists(*map(cells_of, data)), {}
    raise DataError(
        f"rows can be read from {ACCEPTED}; a {type(data).__name__} was given", fix=_conversion_advice(data)
    )


def _of_two_lists(texts: Sequence[Cell], labels: Sequence[Cell]) -> Columns:
    if len(texts) != len(labels):
        raise DataError(f"there are {len(texts):,} texts and {len(labels):,} labels", fix="Give one label per text")
    if not texts or not all(isinstance(text, tuple | list) and len(text) == 2 for text in texts):
        return {TEXT: texts, LABEL: labels}
    return {TEXT: [text for text, _ in texts], PAIR: [pair for _, pair in texts], LABEL: labels}


def _conversion_advice(data: Any) -> str | None:
    """How to convert an object that is almost acceptable; None if there is no advice."""
    if _of_class(data, ("polars", "LazyFrame")):
        return "Compute it first: frame.collect()"
    if is_stream(data):
        return "Training reads the rows many times, so give list(rows)"
    if _is_column(data) and len(data) and isinstance(data[0] if isinstance(data, list) else None, tuple):
        return "Give two lists instead of a list of pairs: tuple(zip(*rows))"
    return "Give its labels beside the texts: (texts, labels)" if _is_column(data) else None


def _is_records(data: Any) -> bool:
    return isinstance(data, list | tuple) and bool(data) and all(isinstance(row, Mapping) for row in data)


def _is_column(data: Any) -> bool:
    return isinstance(data, list | tuple) or _reader(data, _COLUMNS) is not None


# -- the libraries ----------------------------------------------------------------------------------------------------


def _of_pandas(frame: Any) -> tuple[Columns, Classes]:
    names = [str(name) for name in frame.columns]
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"two columns are called {name!r}", file=called(frame), fix="Rename one of them")
    return {name: cells_of(frame.iloc[:, index]) for index, name in enumerate(names)}, {}


def _pandas_cells(series: Any) -> list[Cell]:
    cells, missing = series.astype(object).tolist(), series.isna().tolist()
    return [None if is_missing else cell for cell, is_missing in zip(cells, missing)]


def _of_dataset(data: Any) -> tuple[Columns, Classes]:
    features = {column: getattr(feature, "feature", feature) for column, feature in data.features.items()}
    classes = {column: tuple(feature.names) for column, feature in features.items() if getattr(feature, "names", None)}
    unformatted = data.with_format(None)
    return {
        name: [class_name(cell, classes[name]) for cell in unformatted[name]]
        if name in classes
        else list(unformatted[name])
        for name in data.column_names
    }, classes


_TABLES: dict[tuple[str, str], Callable[[Any], tuple[Columns, Classes]]] = {
    ("pandas", "DataFrame"): _of_pandas,
    ("polars", "DataFrame"): lambda frame: (frame.to_dict(as_series=False), {}),
    ("pyarrow", "Table"): arrow_columns,
    ("pyarrow", "RecordBatch"): arrow_columns,
    ("datasets", "Dataset"): _of_dataset,
}
_COLUMNS: dict[tuple[str, str], Callable[[Any], Sequence[Cell]]] = {
    ("pandas", "Series"): _pandas_cells,
    ("pandas", "Index"): _pandas_cells,
    ("pandas", "ExtensionArray"): _pandas_cells,
    ("polars", "Series"): lambda series: series.to_list(),
    ("pyarrow", "Array"): lambda array: array.to_pylist(),
    ("pyarrow", "ChunkedArray"): lambda array: array.to_pylist(),
    ("datasets", "Column"): list,
    ("numpy", "ndarray"): lambda array: array.tolist(),
}


def _reader(data: Any, readers: Mapping[tuple[str, str], Callable[[Any], Any]]) -> Callable[[Any], Any] | None:
    """The reader for the class of an object or for one of its base classes."""
    return next((readers[name] for name in _classes_of(data) if name in readers), None)


def _of_class(data: Any, *names: tuple[str, str]) -> bool:
    return any(name in names for name in _classes_of(data))


def _classes_of(data: Any) -> Iterator[tuple[str, str]]:
    """The library and name of an object's class and of all its base classes."""
    return ((of.__module__.partition(".")[0], of.__name__) for of in type(data).__mro__)
