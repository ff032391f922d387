"""The GLUE tasks as rows of data, read from the official download.

GLUE's test labels are secret, so its dev set is what is reported (``Task.test``) and a seeded tenth
of train is held out to choose on (``Task.validation``): the reported rows choose nothing.

The tsv files have no quoting: a field is what stands between two tabs. CoLA's train and dev have no
header, MRPC's begin with a byte order mark, and QQP's train has a few rows broken by a line break in
a question, which are skipped as ``datasets`` and ``transformers`` do; ``Task.notes`` says how many.

Wang et al.: GLUE, a multi-task benchmark and analysis platform, arXiv:1804.07461.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from polytask.data.folders import Found, find_file, find_folder, read_whole
from polytask.data.task import Kind, Rows, Task
from polytask.errors import DataError, UnknownName
from polytask.files import write_text

HUB = "nyu-mll/glue"
"""The data set on the hub; each task's ``config`` is its configuration there."""

NLI = ("entailment", "neutral", "contradiction")
ENTAILED = ("entailment", "not_entailment")


@dataclass(frozen=True)
class Glue:
    """One task of GLUE: where its columns stand and what they mean.

    ``labels`` are in index order, none for regression. ``is_numbered``: the files and the server spell
    a label by its index, otherwise by its name. ``rows`` are the official counts of train, dev and
    test, 0 where there is no such split. ``columns`` are those of a labelled file without a header.
    ``test`` lists the names under which the unlabelled rows are found. ``in_mean``: counts in the
    paper's mean.
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
        return "classification" if self.labels else "regression"

    @property
    def spellings(self) -> tuple[str, ...]:
        """Each label as the files and the server write it, in index order."""
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
"""MNLI-m and MNLI-mm share their training rows; AX has none (MNLI's adapter answers it)."""


def found(folder: str | PathLike[str]) -> dict[str, Found]:
    """The GLUE tasks under ``folder`` that ``read_glue`` can read, in GLUE's order."""
    places = {name: find_folder(task.folder or name, folder) for name, task in GLUE.items()}
    return {
        name: place
        for name, place in places.items()
        if place and find_file(place.folder, "train.tsv") and find_file(place.folder, GLUE[name].dev)
    }


def read_glue(name: str, folder: str | PathLike[str], *, seed: int = 0, limit: int | None = None) -> Task:
    """Read a GLUE task from the official layout (``folder/CoLA/train.tsv``, …), gzipped or not.

    ``train`` and ``validation`` are nine tenths and a seeded tenth of GLUE's train, or of its first
    ``limit`` rows; ``test`` is GLUE's dev. A ``<name>_sample`` folder is read where the whole one is
    missing; ``notes`` say so, and where rows were skipped or are fewer than GLUE's.

    Raises ``UnknownName`` for a name not in ``GLUE`` and ``DataError`` for what cannot be read.
    """
    row = _row(name)
    if not row.rows[0]:
        raise DataError(f"{name} has no training rows. It is answered by an adapter trained on MNLI-m")
    place = _place(row, folder)
    train, train_skipped = _labelled(row, _file(place, "train.tsv"))
    test, test_skipped = _labelled(row, _file(place, row.dev))
    notes = _notes(row, place, {"train": (len(train), train_skipped), "dev": (len(test), test_skipped)})
    if limit is not None and limit < len(train):
        notes.append(f"{name}: the first {limit:,} of {len(train):,} training rows")
        train = train.take(range(limit))
    train, validation = hold_out(train, seed)
    return Task(name, row.kind, row.labels, row.metric, train, validation, test, tuple(notes))


def hold_out(rows: Rows, seed: int) -> tuple[Rows, Rows]:
    """Nine tenths of ``rows`` and a seeded tenth of them (at least one row), each in the order given.

    The draw uses only ``Random.random``, whose sequence Python promises to keep, so a split made
    today is the split made later.
    """
    if len(rows) < 2:
        raise DataError(f"{len(rows)} training rows cannot be split. At least 2 are needed, to train and to validate")
    draw = random.Random(seed)
    keys = [draw.random() for _ in range(len(rows))]
    held = set(sorted(range(len(rows)), key=keys.__getitem__)[: max(1, len(rows) // 10)])
    return rows.take([i for i in range(len(rows)) if i not in held]), rows.take(sorted(held))


def read_submission_rows(name: str, folder: str | PathLike[str]) -> Rows:
    """GLUE's unlabelled test rows of a task, in file order, with the server's indices as ``ids``."""
    row = _row(name)
    place = _place(row, folder)
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
            raise DataError(f"{len(fields)} columns, where there should be {len(table.header)}", file=path, line=line)
        texts.append([fields[column] for column in columns])
        ids.append(str(len(ids)) if index is None else fields[index])
    return Rows([t[0] for t in texts], [t[1] for t in texts] if row.pair else None, ids=ids)


def write_submission(
    folder: str | PathLike[str], predictions: Mapping[str, Sequence[int | str | float]]
) -> tuple[str, ...]:
    """Write ``<task>.tsv`` for the GLUE server, one for each task in ``predictions``.

    A prediction is the index or the name of a label, or a score for STS-B (cut to [0, 5], three
    decimals), in the order of ``read_submission_rows``. Returns the tasks that are still missing:
    the server takes a submission only when all are there. Everything is checked before anything is
    written, and each file is written whole or not at all.

    Raises ``UnknownName`` for a task that is none of GLUE's and ``DataError`` for a wrong number of
    predictions or one that is not an answer to its task.
    """
    texts = {name: _submission(_row(name), answers) for name, answers in predictions.items()}
    for name, text in texts.items():
        write_text(Path(folder) / f"{name}.tsv", text)
    return tuple(name for name in GLUE if name not in predictions)


@dataclass(frozen=True)
class _Table:
    """A tsv file without quoting: its header, and its rows with their line numbers."""

    file: Path
    header: tuple[str, ...]
    rows: list[tuple[int, list[str]]]

    @classmethod
    def read(cls, path: Path, columns: tuple[str, ...] | None = None) -> _Table:
        lines = list(_lines(read_whole(path)))
        if columns is None and lines:
            columns = tuple(lines.pop(0)[1])
        if not columns or not lines:
            raise DataError("the file holds no rows", file=path)
        return cls(path, columns, lines)

    def column(self, name: str) -> int:
        if name not in self.header:
            there = ", ".join(self.header)
            raise DataError("there is no such column", file=self.file, column=name, fix=f"There are: {there}")
        return self.header.index(name)


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    """Line number and fields. Only a line feed ends a line: ``splitlines`` would also cut at U+2028 in a text."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip("\r"):
            yield number, line.removesuffix("\r").split("\t")


def _labelled(row: Glue, path: Path) -> tuple[Rows, int]:
    """The rows of a labelled file, and how many were skipped for lack of a column or a text."""
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
        targets=[_target(row, fields[label], path, line) for line, fields in whole],
    )
    return rows, len(table.rows) - len(whole)


def _target(row: Glue, spelled: str, path: Path, line: int) -> int | float:
    if row.labels:
        if spelled in row.spellings:
            return row.spellings.index(spelled)
        fix = f"The labels of {row.name} are: {', '.join(row.spellings)}"
        raise DataError(f"{spelled!r} is no label", file=path, line=line, column=row.label, fix=fix)
    score = _score(spelled)
    if score is None or not 0 <= score <= 5:
        raise DataError(f"{spelled!r} is not a score from 0 to 5", file=path, line=line, column=row.label)
    return score


def _score(value: Any) -> float | None:
    try:
        score = float(value)
    except (TypeError, ValueError):
        return None
    return score if math.isfinite(score) else None


def _notes(row: Glue, place: Found, counts: Mapping[str, tuple[int, int]]) -> list[str]:
    """What a reader of the task's scores should know: ``counts`` are rows and skipped rows of train and dev."""
    notes = [f"{row.name}: a sample, read from {place.folder.name}"] if place.is_sample else []
    for official, (split, (rows, skipped)) in zip(row.rows, counts.items(), strict=False):
        if rows != official:
            remark = ", so its score is not GLUE's" if split == "dev" else ""
            notes.append(f"{row.name}: {rows:,} rows in {split}, GLUE's has {official:,}{remark}")
        if skipped:
            notes.append(f"{row.name}: {skipped:,} rows of {split} lack a column or a text and were skipped")
    return notes


def _submission(row: Glue, answers: Sequence[int | str | float]) -> str:
    if len(answers) != row.rows[2]:
        raise DataError(f"{row.name} has {row.rows[2]:,} test rows, but {len(answers):,} predictions were given")
    lines = [f"{index}\t{_spelled(row, answer, index)}\n" for index, answer in enumerate(answers)]
    return "index\tprediction\n" + "".join(lines)


def _spelled(row: Glue, answer: int | str | float, index: int) -> str:
    if row.labels:
        choices = (*range(len(row.labels)), *row.labels)
        if answer in choices:
            return (row.spellings * 2)[choices.index(answer)]
        right = f"the index or the name of one of: {', '.join(row.labels)}"
    else:
        score = _score(answer)
        if score is not None:
            return f"{min(max(score, 0.0), 5.0):.3f}"
        right = "a number"
    raise DataError(f"{row.name}: prediction {index} is {answer!r}. It should be {right}")


def _row(name: str) -> Glue:
    if name not in GLUE:
        raise UnknownName("GLUE task", name, GLUE)
    return GLUE[name]


def _place(row: Glue, root: str | PathLike[str]) -> Found:
    name = row.folder or row.name
    place = find_folder(name, root)
    if place is None:
        raise DataError(f"there is no folder {name} (or {name}_sample)", file=root, fix="Give GLUE's download folder")
    return place


def _file(place: Found, name: str) -> Path:
    path = find_file(place.folder, name)
    if path is None:
        raise DataError(f"there is no {name} (or {name}.gz)", file=place.folder)
    return path
