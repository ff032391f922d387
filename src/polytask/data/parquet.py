"""Reads and writes Parquet, with the class names that Hugging Face's ``datasets`` stores in it."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from polytask.data.table import Cell, Row, Table, class_name
from polytask.errors import DataError


def read_parquet(file: str, content: bytes) -> Table:
    """Read a Parquet file into a table; class indices become class names.

    Raises:
        DataError: the file is not valid Parquet.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(pa.BufferReader(content)).read()
        columns, classes = arrow_columns(table)
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        reason = str(error).split("\n")[0]
        raise DataError(f"the file is not valid Parquet ({reason})", file=file, fix="Write or copy it again") from None
    rows = list(zip(*columns.values()))
    return Table(file, tuple(table.column_names), rows, range(1, len(rows) + 1), classes)


def arrow_columns(table: Any) -> tuple[dict[str, list[Cell]], dict[str, tuple[str, ...]]]:
    """The columns of an Arrow table as plain values, by name, and the names of the classes of a column."""
    classes = _read_class_names(table.schema.metadata or {})
    columns = {name: column.to_pylist() for name, column in zip(table.column_names, table.columns)}
    for name in classes.keys() & columns.keys():
        columns[name] = [class_name(cell, classes[name]) for cell in columns[name]]
    return columns, classes


def _read_class_names(metadata: Mapping[bytes, bytes]) -> dict[str, tuple[str, ...]]:
    """Return the class names by column from the schema metadata that ``datasets`` writes."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"].items()
    except (ValueError, LookupError, TypeError, AttributeError):
        return {}
    found = {}
    for column, feature in features:
        feature = feature[0] if isinstance(feature, list) and len(feature) == 1 else feature
        of_each = feature.get("feature", feature) if isinstance(feature, dict) else {}
        names = of_each.get("names") if isinstance(of_each, dict) and of_each.get("_type") == "ClassLabel" else None
        if isinstance(names, list) and all(isinstance(name, str) and name.strip() for name in names):
            stripped = tuple(name.strip() for name in names)
            if len({*stripped}) == len(stripped):
                found[column] = stripped
    return found


def write_parquet(file: str, header: list[str], rows: list[Row], classes: Mapping[str, Sequence[str]]) -> bytes:
    """Format rows as a Parquet file with the class names of its columns, in index order.

    Raises:
        DataError: a column has values of several types.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = io.BytesIO()
    try:
        columns = [pa.array([row[index] for row in rows]) for index in range(len(header))]
        pq.write_table(pa.table(columns, names=header, metadata=_class_name_metadata(classes)), out)
    except (pa.ArrowException, OverflowError) as error:
        fix = "Write .jsonl instead, which allows several types in a column"
        raise DataError(f"the rows cannot be written as Parquet ({error})", file=file, fix=fix) from None
    return out.getvalue()


def _class_name_metadata(classes: Mapping[str, Sequence[str]]) -> dict[bytes, bytes] | None:
    """Return the schema metadata that ``_read_class_names`` reads."""
    if not classes:
        return None
    features = {column: {"names": list(names), "_type": "ClassLabel"} for column, names in classes.items()}
    return {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
