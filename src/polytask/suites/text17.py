"""Reads the 17 further classification tasks of Houlsby et al. (arXiv:1902.00751, Table 2).

A task is a folder with ``train.csv``, ``validation.csv`` and ``test.csv``, gzipped or not, with the columns ``text``
and ``label``. As in the paper, other columns are ignored, such as the ``target`` of the two progressive tasks.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from polytask.data.folders import TaskFolder, column_index, find_file, find_folder, read_text
from polytask.data.task import Rows, Task
from polytask.errors import DataError, UnknownName

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Text17:
    """One task, with the paper's description and results.

    Attributes:
        name: the task's name and folder.
        title: its name in the paper.
        num_classes: the number of classes in the paper.
        rows: the paper's numbers of rows in train, validation and test.
        no_bert: test accuracy without BERT, in per cent, as the next three.
        full: with full fine-tuning.
        top: with fine-tuning of the top n layers, for the best n.
        adapters: with adapters.
        epochs: the paper's epochs of full fine-tuning and of adapters.
    """

    name: str
    title: str
    num_classes: int
    rows: tuple[int, int, int]
    no_bert: float
    full: float
    top: float
    adapters: float
    epochs: tuple[int, int]


# fmt: off
TEXT17: Mapping[str, Text17] = {task.name: task for task in (
    # folder, title, classes, rows, no BERT, full, top-n, adapters, epochs
    Text17("20_newsgroups", "20 newsgroups", 20, (15076, 1885, 1885), 91.1, 92.8, 92.8, 91.7, (50, 50)),
    Text17("crowdflower_airline", "CF airline", 3, (11712, 1464, 1464), 84.5, 83.6, 84.0, 84.5, (50, 20)),
    Text17("crowdflower_corporate_messaging", "CF corporate messaging", 4, (2494, 312, 312),
           91.9, 92.5, 92.4, 92.9, (100, 50)),
    Text17("crowdflower_disasters", "CF disasters", 2, (8688, 1086, 1086), 84.9, 85.3, 85.3, 84.1, (50, 50)),
    Text17("crowdflower_economic_news_relevance", "CF economic news relevance", 2, (6392, 799, 800),
           81.1, 82.1, 78.9, 82.5, (20, 20)),
    Text17("crowdflower_emotion", "CF emotion", 13, (32000, 4000, 4000), 36.3, 38.4, 37.6, 38.7, (20, 20)),
    Text17("crowdflower_global_warming", "CF global warming", 2, (3380, 422, 423), 82.7, 84.2, 81.9, 82.7, (100, 50)),
    Text17("crowdflower_political_audience", "CF political audience", 2, (4000, 500, 500),
           81.0, 80.9, 80.7, 79.0, (50, 20)),
    Text17("crowdflower_political_bias", "CF political bias", 2, (4000, 500, 500), 76.8, 75.2, 76.5, 75.9, (50, 50)),
    Text17("crowdflower_political_message", "CF political message", 9, (4000, 500, 500),
           43.8, 38.9, 44.9, 44.1, (50, 50)),
    Text17("crowdflower_primary_emotions", "CF primary emotions", 18, (2019, 252, 253),
           33.5, 36.9, 38.2, 33.9, (100, 100)),
    Text17("crowdflower_progressive_opinion", "CF progressive opinion", 3, (927, 116, 116),
           70.6, 71.6, 75.9, 71.7, (100, 100)),
    Text17("crowdflower_progressive_stance", "CF progressive stance", 4, (927, 116, 116),
           54.3, 63.8, 61.5, 60.6, (100, 100)),
    Text17("crowdflower_us_economic_performance", "CF US economic performance", 2, (3961, 495, 496),
           75.6, 75.3, 76.5, 77.3, (100, 20)),
    Text17("customer_complaints", "customer complaints", 157, (146667, 18333, 18334), 54.5, 55.9, 56.4, 55.4, (20, 20)),
    Text17("news_aggregator", "news aggregator", 4, (338349, 42294, 42294), 95.2, 96.3, 96.5, 96.2, (20, 20)),
    Text17("sms_spam", "SMS spam", 2, (4459, 557, 558), 98.5, 99.3, 99.3, 95.1, (50, 20)),
)}
# fmt: on
"""All tasks by name, in the paper's order."""


def available_tasks(folder: str | PathLike[str]) -> dict[str, TaskFolder]:
    """Find the tasks under ``folder`` that ``read_text17`` can read, in the paper's order."""
    places = {name: find_folder(name, folder) for name in TEXT17}
    return {
        name: place
        for name, place in places.items()
        if place and all(find_file(place.folder, f"{split}.csv") for split in SPLITS)
    }


def read_text17(name: str, folder: str | PathLike[str], *, limit: int | None = None) -> Task:
    """Read ``folder/<name>/{train,validation,test}.csv[.gz]``.

    Args:
        name: a name in ``TEXT17``.
        folder: the folder of all tasks. If a task's folder is missing, ``<name>_sample`` is read instead.
        limit: use only this many training rows from the start.

    Returns:
        A task with the sorted labels of all three files. Its ``notes`` report samples, and row or class counts that
        differ from the paper's.

    Raises:
        UnknownName: there is no such task.
        DataError: a file cannot be read.
    """
    if name not in TEXT17:
        raise UnknownName("text task", name, TEXT17)
    place = find_folder(name, folder)
    if place is None:
        raise DataError(f"there is no folder {name} (or {name}_sample)", file=folder)
    splits = [_read_split(place.folder, split) for split in SPLITS]
    labels = tuple(sorted({label for _, names in splits for label in names}))
    if len(labels) < 2:
        raise DataError(f"every row has the label {labels[0]!r}", file=place.folder, fix="A task needs at least 2")
    index = {label: i for i, label in enumerate(labels)}
    train, validation, test = (Rows(texts, targets=[index[label] for label in names]) for texts, names in splits)
    notes = _notes(TEXT17[name], place, (len(train), len(validation), len(test)), len(labels))
    if limit is not None and limit < len(train):
        notes.append(f"{name}: the first {limit:,} of {len(train):,} training rows")
        train = train.take(range(limit))
    return Task(name, "classification", labels, "accuracy", train, validation, test, tuple(notes))


def _read_split(folder: Path, split: str) -> tuple[list[str], list[str]]:
    """Return the texts and the label names of one file."""
    path = find_file(folder, f"{split}.csv")
    if path is None:
        raise DataError(f"there is no {split}.csv (or {split}.csv.gz)", file=folder)
    texts: list[str] = []
    names: list[str] = []
    csv.field_size_limit(2**31 - 1)  # a text of 20 newsgroups exceeds the default of 131,072 characters
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        header = next(reader, [])
        text, label = (column_index(header, name, path) for name in ("text", "label"))
        after = reader.line_num + 1
        for fields in reader:
            line, after = after, reader.line_num + 1  # a quoted text may hold line breaks
            if not fields:
                continue
            if len(fields) != len(header):
                raise DataError(f"{len(fields)} columns instead of {len(header)}", file=path, line=line)
            for column in (text, label):
                if not fields[column].strip():
                    raise DataError("the cell is empty", file=path, line=line, column=header[column])
            texts.append(fields[text])
            names.append(fields[label])
    except csv.Error as error:
        raise DataError(f"not a CSV file ({error})", file=path, line=reader.line_num) from error
    if not texts:
        raise DataError("the file contains no rows", file=path)
    return texts, names


def _notes(task: Text17, place: TaskFolder, rows: tuple[int, ...], num_classes: int) -> list[str]:
    notes = [f"{task.name}: a sample, read from {place.folder.name}"] if place.is_sample else []
    if rows != task.rows:
        notes.append(f"{task.name}: {_counts(rows)} rows instead of the paper's {_counts(task.rows)}")
    if num_classes != task.num_classes:
        notes.append(f"{task.name}: {num_classes} classes instead of the paper's {task.num_classes}")
    return notes


def _counts(rows: tuple[int, ...]) -> str:
    return " / ".join(f"{count:,}" for count in rows)
