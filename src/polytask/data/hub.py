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
from polytask.data.in_memory import table_from
from polytask.data.read import Asked, task_from_splits
from polytask.data.source import Source
from polytask.data.task import Kind, Rows, Task
from polytask.errors import DataError

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
    asked = Asked(text, text_pair, label, kind, metric, seed, validation_share, drop_empty, positive)
    return task_from_splits(name or (configuration or path.rstrip("/")).split("/")[-1], splits, spec, asked)


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
    table = table_from(splits[split], f"{spec}[{split}]")
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
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return f"HF_HUB_OFFLINE is set, so only what is in the cache is read ({constants.HF_HOME}, HF_HOME): unset it"
    return "Check its name at https://huggingface.co/datasets, and the connection; HF_TOKEN opens private ones"
