"""Tasks from data sets on the Hugging Face hub, by name: ``nyu-mll/glue:cola``.

A data set is read with ``datasets`` into the same tables as a file, and everything after that is the same. Its
label names keep the order that the hub gives them, so index 1 is what the data set's card says. Code that
comes with a data set is never run.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from polytask.data.columns import find_roles
from polytask.data.read import Asked, roles_in, task_from_tables
from polytask.data.source import Source
from polytask.data.table import Table, named
from polytask.data.task import Kind, Rows, Task
from polytask.errors import DataError

_VALIDATION = ("validation", "dev", "valid", "val", "validation_matched")
_TEST = ("test", "test_matched")
CONNECT_S = 5.0


def read_hub(
    spec: str,
    name: str | None = None,
    *,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | None = None,
    kind: Kind | None = None,
    metric: str | None = None,
    seed: int = 0,
    validation_share: float = 0.1,
    drop_empty: bool = False,
    positive: str | None = None,
) -> Task:
    """Read a task from the hub, or from a folder that ``datasets`` can read.

    Args:
        spec: ``owner/data-set`` or ``owner/data-set:configuration``.
        name: the task's name; by default the configuration's, or the data set's.
        text: as all the others, see ``polytask.data.read.read_task``.

    Its splits ``train``, ``validation`` and ``test`` are used. A split whose rows have no labels, as the test rows
    of GLUE, is passed over with a note.

    Raises:
        DataError: there is no such data set, configuration or training split, or no way to reach it; or as
            ``read_task``.
    """
    path, _, configuration = spec.partition(":")
    splits = _load(spec, path, configuration or None)
    if "train" not in splits:
        raise DataError(f"there is no split 'train'. There are: {', '.join(map(str, splits))}", file=spec)
    train = _table(splits["train"], f"{spec}[train]")
    label_at = roles_in(train, kind, text=text, text_pair=text_pair, label=label).label
    assert label_at is not None
    label_name = train.header[label_at]
    notes: list[str] = []

    def labelled(names: Sequence[str]) -> Table | None:
        split = next((name for name in names if name in splits), None)
        table = None if split is None else _table(splits[split], f"{spec}[{split}]")
        if table is None or not _is_unlabelled(table, label_name):
            return table
        notes.append(f"The {split} rows of {spec} have no labels and are not used.")
        return None

    return task_from_tables(
        name or (configuration or path.rstrip("/")).split("/")[-1],
        train,
        labelled(_VALIDATION),
        labelled(_TEST),
        Asked(text, text_pair, label, kind, metric, seed, validation_share, drop_empty, positive),
        notes,
    )


def read_hub_rows(
    spec: str,
    split: str,
    *,
    text: str,
    text_pair: str | None = None,
    label: str,
    kind: Kind,
    labels: Sequence[str] = (),
) -> Rows:
    """The labelled rows of one split, ``labels`` being their names in the order of their indices.

    Raises:
        DataError: there is no such data set, split, column or label, or no way to reach it.
    """
    path, _, configuration = spec.partition(":")
    splits = _load(spec, path, configuration or None)
    if split not in splits:
        raise DataError(f"there is no split {split!r}. There are: {', '.join(map(str, splits))}", file=spec)
    table = _table(splits[split], f"{spec}[{split}]")
    return Source(table, find_roles(table, text=text, text_pair=text_pair, label=label)).labelled(kind, labels)


def _load(spec: str, path: str, configuration: str | None) -> Mapping[str, Any]:
    from datasets import Dataset, DatasetDict, load_dataset

    try:
        with nullcontext() if Path(path).exists() or _is_reachable() else _offline():
            loaded = load_dataset(path, configuration)
    except Exception as error:  # datasets, the hub and the network raise errors of a dozen families
        raise DataError(_reason(error), file=spec, fix=_fix(path, error)) from error
    assert isinstance(loaded, (Dataset, DatasetDict)), type(loaded)
    return {"train": loaded} if isinstance(loaded, Dataset) else loaded


def _is_reachable() -> bool:
    """Whether the hub answers, as far as can be told in seconds; its client would try for minutes."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE or getproxies():
        return True
    place = urlsplit(constants.ENDPOINT)
    try:
        with socket.create_connection((place.hostname or "", place.port or 443), timeout=CONNECT_S):
            return True
    except OSError:
        return False


@contextmanager
def _offline() -> Iterator[None]:
    """Within the block data sets are read that were downloaded before, and no connection is tried."""
    import datasets.config
    from huggingface_hub import constants

    constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = False


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"the data set cannot be loaded: {' '.join(lines[:3])[:400] or type(error).__name__}".rstrip(".")


def _fix(path: str, error: Exception) -> str:
    if isinstance(error, ValueError) and "onfig" in str(error):
        return f"Name a configuration after a colon: --hub {path}:NAME"
    if "script" in str(error):
        return (
            "Polytask does not run a data set's own code. Save it as Parquet, CSV or JSON lines, and train on the file"
        )
    return "Check its name at https://huggingface.co/datasets, and the connection; HF_TOKEN opens private ones"


def _table(split: Any, file: str) -> Table:
    names = _label_names(split)
    header = tuple(split.column_names)
    columns = [
        [named(cell, names[column]) for cell in split[column]] if column in names else split[column]
        for column in header
    ]
    rows = list(zip(*columns))
    if not rows:
        raise DataError("there are no rows", file=file)
    return Table(file, header, rows, range(1, len(rows) + 1), names)


def _label_names(split: Any) -> dict[str, Sequence[str]]:
    """By column, the names of its ``ClassLabel``, which may stand in a list."""
    features = {column: getattr(feature, "feature", feature) for column, feature in split.features.items()}
    return {column: tuple(feature.names) for column, feature in features.items() if getattr(feature, "names", None)}


def _is_unlabelled(table: Table, label: str) -> bool:
    return label not in table.header or all(cell is None for cell in table.column(table.header.index(label)).cells)
