"""Reads tasks from data sets on the Hugging Face hub, such as ``nyu-mll/glue:cola``.

A data set is read with ``datasets`` into the same tables as a file. Label names keep the order of the hub, so
indices mean what the data set's card says. Code that comes with a data set is never run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from polytask.backbones.hub import is_reachable
from polytask.data.columns import find_roles
from polytask.data.in_memory import table_from
from polytask.data.read import ReadOptions, task_from_splits
from polytask.data.source import Source
from polytask.data.task import Kind, Rows, Task
from polytask.errors import DataError


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
        name: the task's name (default: the configuration's name, or the data set's).
        text: this and the remaining arguments are those of ``polytask.data.read.read_task``.

    Returns:
        The task of the splits ``train``, ``validation`` and ``test``. A split without labels, such as GLUE's test
        rows, is skipped with a note.

    Raises:
        DataError: the data set, configuration or training split does not exist or cannot be reached; or as
            ``read_task``.
    """
    path, _, configuration = spec.partition(":")
    splits = _load(spec, path, configuration or None)
    options = ReadOptions(text, text_pair, label, kind, metric, seed, validation_share, drop_empty, positive)
    return task_from_splits(name or (configuration or path.rstrip("/")).split("/")[-1], splits, spec, options)


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
    """Read the labelled rows of one split.

    Args:
        spec: as in ``read_hub``.
        split: the split's name.
        text: the text column.
        text_pair: the second-text column, if any.
        label: the label column.
        kind: the kind of task.
        labels: the label names in the order of their indices.

    Raises:
        DataError: the data set, split, column or label does not exist, or the hub cannot be reached.
    """
    path, _, configuration = spec.partition(":")
    splits = _load(spec, path, configuration or None)
    if split not in splits:
        raise DataError(f"there is no split {split!r}. There are: {', '.join(map(str, splits))}", file=spec)
    table = table_from(splits[split], f"{spec}[{split}]")
    return Source(table, find_roles(table, text=text, text_pair=text_pair, label=label)).labelled_rows(kind, labels)


def _load(spec: str, path: str, configuration: str | None) -> Mapping[str, Any]:
    from datasets import Dataset, DatasetDict, load_dataset

    try:
        with nullcontext() if Path(path).exists() or is_reachable() else _offline():
            loaded = load_dataset(path, configuration)
    except Exception as error:  # datasets, the hub and the network raise many unrelated types
        raise DataError(_reason(error), file=spec, fix=_advice(path, error)) from error
    assert isinstance(loaded, (Dataset, DatasetDict)), type(loaded)
    return {"train": loaded} if isinstance(loaded, Dataset) else loaded


@contextmanager
def _offline() -> Iterator[None]:
    """Use only data sets that were downloaded before; open no connection."""
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


def _advice(path: str, error: Exception) -> str:
    if isinstance(error, ValueError) and "onfig" in str(error):
        return f"Name a configuration after a colon: --hub {path}:NAME"
    if "script" in str(error):
        return (
            "Polytask does not run a data set's own code. Save it as Parquet, CSV or JSON lines, and train on the file"
        )
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return f"HF_HUB_OFFLINE is set, so only what is in the cache is read ({constants.HF_HOME}, HF_HOME): unset it"
    return "Check its name at https://huggingface.co/datasets, and the connection; HF_TOKEN opens private ones"
