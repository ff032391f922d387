"""Reads the GLUE tasks from the official download and writes submissions.

GLUE's test labels are secret, so its dev set is reported (``Task.test``), and a seeded tenth of train is held out to
choose settings (``Task.validation``). No setting is chosen on reported rows.

The TSV files have no quoting: every tab ends a field. CoLA's train and dev have no header, MRPC's start with a byte
order mark, and QQP's train has a few rows broken by a line break in a question. These are skipped, as ``datasets`` and
``transformers`` do, and counted in ``Task.notes``.

Source: Wang et al., GLUE: A Multi-Task Benchmark and Analysis Platform, arXiv:1804.07461.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from polytask.data.folders import TaskFolder, column_index, find_file, find_folder, read_text
from polytask.data.task import Kind, Rows, Task
from polytask.errors import DataError, UnknownName
from polytask.files import write_text

HUB = "nyu-mll/glue"
"""The data set on the Hugging Face hub; ``config`` is a task's configuration there."""

NLI = ("entailment", "neutral", "contradiction")
ENTAILED = ("entailment", "not_entailment")


@dataclass(frozen=True)
class Glue:
    """One task of GLUE: its files, columns and labels.

    Attributes:
        name: the task's name.
        text: the text column.
        pair: the second-text column; None for single texts.
        label: the label column.
        labels: the label names in the order of their indices; empty for regression.
        metric: the task's metric.
        config: the configuration on the Hugging Face hub.
        rows: the official numbers of rows in train, dev and test; 0 for a missing split.
        is_numbered: whether the files and the server write a label as its index instead of its name.
        in_mean: whether the task counts in the paper's mean.
        columns: the columns of labelled files without a header.
        folder: the folder's name, if it differs from the task's.
        dev: the name of the dev file.
        test: the possible names of the file of unlabelled rows.
    """

    name: str
    text: str
    pair: str | None
    label: str
    labels: tuple[str, ...]
    metric: str
    config: str
    rows: tuple[int, int, int]
    is_numbered: bool = True
    in_mean: bool = True
    columns: tuple[str, ...] | None = None
    folder: str = ""
    dev: str = "dev.tsv"
    test: tuple[str, ...] = ("test.tsv",)

    @property
    def kind(self) -> Kind:
        """``classification``, or ``regression`` for a task without labels."""
        return "classification" if self.labels else "regression"

    @property
    def spellings(self) -> tuple[str, ...]:
        """The labels as the files and the server write them, in the order of their indices."""
        return tuple(map(str, range(len(self.labels)))) if self.is_numbered else self.labels


# fmt: off
GLUE: Mapping[str, Glue] = {task.name: task for task in (
    Glue("CoLA", "sentence", None, "label", ("unacceptable", "acceptable"), "matthews", "cola", (8551, 1043, 1063),
         columns=("source", "label", "mark", "sentence")),
    Glue("SST-2", "sentence", None, "label", ("negative", "positive"), "accuracy", "sst2", (67349, 872, 1821)),
    Glue("MRPC", "#1 String", "#2 String", "Quality", ("not_equivalent", "equivalent"), "f1", "mrpc", (3668, 408, 1725),
         test=("test.tsv", "msr_paraphrase_test.txt")),
    Glue("STS-B", "sentence1", "sentence2", "score", (), "spearman", "stsb", (5749, 1500, 1379)),
    Glue("QQP", "question1", "question2", "is_duplicate", ("not_duplicate", "duplicate"), "f1", "qqp",
         (363846, 40430, 390965)),
    Glue("MNLI-m", "sentence1", "sentence2", "gold_label", NLI, "accuracy", "mnli", (392702, 9815, 9796),
         is_numbered=False, folder="MNLI", dev="dev_matched.tsv", test=("test_matched.tsv",)),
    Glue("MNLI-mm", "sentence1", "sentence2", "gold_label", NLI, "accuracy", "mnli", (392702, 9832, 9847),
         is_numbered=False, folder="MNLI", dev="dev_mismatched.tsv", test=("test_mismatched.tsv",)),
    Glue("QNLI", "question", "sentence", "label", ENTAILED, "accuracy", "qnli", (104743, 5463, 5463),
         is_numbered=False),
    Glue("RTE", "sentence1", "sentence2", "label", ENTAILED, "accuracy", "rte", (2490, 277, 3000), is_numbered=False),
    Glue("WNLI", "sentence1", "sentence2", "label", ("not_entailment", "entailment"), "accuracy", "wnli",
         (635, 71, 146), in_mean=False),
    Glue("AX", "sentence1", "sentence2", "label", NLI, "matthews", "ax", (0, 0, 1104),
         is_numbered=False, in_mean=False, folder="diagnostic", test=("diagnostic.tsv", "AX.tsv")),
)}
# fmt: on
"""All tasks by name. MNLI-m and MNLI-mm share their training rows; AX has none and uses MNLI's adapter."""


def available_tasks(folder: str | PathLike[str]) -> dict[str, TaskFolder]:
    """Find the GLUE tasks under ``folder`` that ``read_glue`` can read, in GLUE's order."""
    places = {name: find_folder(task.folder or name, folder) for name, task in GLUE.items()}
    return {
        name: place
        for name, place in places.items()
        if place and find_file(place.folder, "train.tsv") and find_file(place.folder, GLUE[name].dev)
    }


def read_glue(name: str, folder: str | PathLike[str], *, seed: int = 0, limit: int | None = None) -> Task:
    """Read a GLUE task from the official layout (``folder/CoLA/train.tsv``, …), gzipped or not.

    Args:
        name: a name in ``GLUE``.
        folder: the download's folder. If a task's folder is missing, ``<name>_sample`` is read instead.
        seed: chooses the validation rows.
        limit: use only this many training rows from the start.

    Returns:
        A task with nine tenths of GLUE's train as ``train``, a tenth as ``validation`` and GLUE's dev as ``test``. Its
        ``notes`` report samples, skipped rows and row counts that differ from GLUE's.

    Raises:
        UnknownName: there is no such task.
        DataError: a file cannot be read.
    """
    row = _glue_task(name)
    if not row.rows[0]:
        raise DataError(f"{name} has no training rows. Use an adapter trained on MNLI-m")
    place = _task_folder(row, folder)
    train, train_skipped = _read_labelled(row, _required_file(place, "train.tsv"))
    test, test_skipped = _read_labelled(row, _required_file(place, row.dev))
    notes = _notes(row, place, {"train": (len(train), train_skipped), "dev": (len(test), test_skipped)})
    if limit is not None and limit < len(train):
        notes.append(f"{name}: the first {limit:,} of {len(train):,} training rows")
        train = train.take(range(limit))
    train, validation = hold_out(train, seed)
    return Task(name, row.kind, row.labels, row.metric, train, validation, test, tuple(notes))


def hold_out(rows: Rows, seed: int) -> tuple[Rows, Rows]:
    """Split rows into nine tenths and a seeded tenth (at least one row), both in their original order.

    Only ``Random.random`` is used, whose sequence Python guarantees, so the split never changes.

    Raises:
        DataError: there are fewer than two rows.
    """
    if len(rows) < 2:
        raise DataError(
            f"{len(rows)} training rows cannot be split. At least 2 are needed, one to train and one to validate"
        )
    draw = random.Random(seed)
    keys = [draw.random() for _ in range(len(rows))]
    held = set(sorted(range(len(rows)), key=keys.__getitem__)[: max(1, len(rows) // 10)])
    return rows.take([i for i in range(len(rows)) if i not in held]), rows.take(sorted(held))


def read_submission_rows(name: str, folder: str | PathLike[str]) -> Rows:
    """Read GLUE's unlabelled test rows of a task, in file order, with the server's indices as ``ids``.

    Raises:
        UnknownName: there is no such task.
        DataError: the file cannot be read, or a row has too few columns.
    """
    row = _glue_task(name)
    place = _task_folder(row, folder)
    path = next((path for name in row.test if (path := find_file(place.folder, name))), None)
    if path is None:
        raise DataError(f"there is no {' or '.join(row.test)} (or .gz)", file=place.folder)
    table = _Table.read(path)
    columns = [table.column(c) for c in (row.text, row.pair) if c is not None]
    index = next((table.header.index(c) for c in ("index", "id") if c in table.header), None)
    texts: list[list[str]] = []
    ids: list[str] = []
    for line, fields in table.rows:
        if len(fields) <= max(columns):
            raise DataError(f"{len(fields)} columns instead of {len(table.header)}", file=path, line=line)
        texts.append([fields[column] for column in columns])
        ids.append(str(len(ids)) if index is None else fields[index])
    return Rows([t[0] for t in texts], [t[1] for t in texts] if row.pair else None, ids=ids)


def write_submission(
    folder: str | PathLike[str], predictions: Mapping[str, Sequence[int | str | float]]
) -> tuple[str, ...]:
    """Write ``<task>.tsv`` for the GLUE server for each task in ``predictions``.

    All predictions are checked before any file is written; each file is written whole or not at all.

    Args:
        folder: where the files are written.
        predictions: by task, one prediction per row of ``read_submission_rows``: the index or name of a label, or for
            STS-B a score, which is clipped to [0, 5] and written with three decimals.

    Returns:
        The tasks that are still missing; the server accepts only complete submissions.

    Raises:
        UnknownName: a task is not in GLUE.
        DataError: the number of predictions is wrong, or one is not valid for its task.
    """
    texts = {name: _format_submission(_glue_task(name), answers) for name, answers in predictions.items()}
    for name, text in texts.items():
        write_text(Path(folder) / f"{name}.tsv", text)
    return tuple(name for name in GLUE if name not in predictions)


@dataclass(frozen=True)
class _Table:
    """A TSV file without quoting: its header, and its rows with line numbers."""

    file: Path
    header: tuple[str, ...]
    rows: list[tuple[int, list[str]]]

    @classmethod
    def read(cls, path: Path, columns: tuple[str, ...] | None = None) -> _Table:
        lines = list(_lines(read_text(path)))
        if columns is None and lines:
            columns = tuple(lines.pop(0)[1])
        if not columns or not lines:
            raise DataError("the file contains no rows", file=path)
        return cls(path, columns, lines)

    def column(self, name: str) -> int:
        return column_index(self.header, name, self.file)


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield line numbers and fields. Unlike ``splitlines``, only a line feed ends a line, not U+2028 in a text."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip("\r"):
            yield number, line.removesuffix("\r").split("\t")


def _read_labelled(row: Glue, path: Path) -> tuple[Rows, int]:
    """Return the rows of a labelled file, and the number of rows skipped because a column or text is missing."""
    table = _Table.read(path, row.columns)
    text, label = table.column(row.text), table.column(row.label)
    pair = None if row.pair is None else table.column(row.pair)
    needed = max(text, label, -1 if pair is None else pair)
    texts = [text] if pair is None else [text, pair]
    whole = [(line, own) for line, own in table.rows if len(own) > needed and all(own[at].strip() for at in texts)]
    if not whole:
        raise DataError(f"no row has the {len(table.header)} columns of {row.name}", file=path)
    rows = Rows(
        texts=[fields[text] for _, fields in whole],
        pairs=None if pair is None else [fields[pair] for _, fields in whole],
        targets=[_parse_target(row, fields[label], path, line) for line, fields in whole],
    )
    return rows, len(table.rows) - len(whole)


def _parse_target(row: Glue, spelled: str, path: Path, line: int) -> int | float:
    if row.labels:
        if spelled in row.spellings:
            return row.spellings.index(spelled)
        fix = f"The labels of {row.name} are: {', '.join(row.spellings)}"
        raise DataError(f"{spelled!r} is not a label", file=path, line=line, column=row.label, fix=fix)
    score = _parse_score(spelled)
    if score is None or not 0 <= score <= 5:
        raise DataError(f"{spelled!r} is not a score from 0 to 5", file=path, line=line, column=row.label)
    return score


def _parse_score(value: Any) -> float | None:
    try:
        score = float(value)
    except (TypeError, ValueError):
        return None
    return score if math.isfinite(score) else None


def _notes(row: Glue, place: TaskFolder, counts: Mapping[str, tuple[int, int]]) -> list[str]:
    """Describe deviations from GLUE; ``counts`` has the numbers of rows and skipped rows of train and dev."""
    notes = [f"{row.name}: a sample, read from {place.folder.name}"] if place.is_sample else []
    for official, (split, (rows, skipped)) in zip(row.rows, counts.items(), strict=False):
        if rows != official:
            remark = ", so scores are not comparable with GLUE's" if split == "dev" else ""
            notes.append(f"{row.name}: {rows:,} rows in {split} instead of GLUE's {official:,}{remark}")
        if skipped:
            notes.append(f"{row.name}: {skipped:,} rows of {split} have a missing column or text and were skipped")
    return notes


def _format_submission(row: Glue, answers: Sequence[int | str | float]) -> str:
    if len(answers) != row.rows[2]:
        raise DataError(f"{row.name} has {row.rows[2]:,} test rows, but {len(answers):,} predictions were given")
    lines = [f"{index}\t{_format_prediction(row, answer, index)}\n" for index, answer in enumerate(answers)]
    return "index\tprediction\n" + "".join(lines)


def _format_prediction(row: Glue, answer: int | str | float, index: int) -> str:
    if row.labels:
        choices = (*range(len(row.labels)), *row.labels)
        if answer in choices:
            return (row.spellings * 2)[choices.index(answer)]
        right = f"the index or the name of one of: {', '.join(row.labels)}"
    else:
        score = _parse_score(answer)
        if score is not None:
            return f"{min(max(score, 0.0), 5.0):.3f}"
        right = "a number"
    raise DataError(f"{row.name}: prediction {index} is {answer!r}. It should be {right}")


def _glue_task(name: str) -> Glue:
    if name not in GLUE:
        raise UnknownName("GLUE task", name, GLUE)
    return GLUE[name]


def _task_folder(row: Glue, root: str | PathLike[str]) -> TaskFolder:
    name = row.folder or row.name
    place = find_folder(name, root)
    if place is None:
        raise DataError(f"there is no folder {name} (or {name}_sample)", file=root, fix="Give GLUE's download folder")
    return place


def _required_file(place: TaskFolder, name: str) -> Path:
    path = find_file(place.folder, name)
    if path is None:
        raise DataError(f"there is no {name} (or {name}.gz)", file=place.folder)
    return path
