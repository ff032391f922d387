"""The paper's tasks by name, from a folder in the official layout or from the hub, cut to the caps of an edition.

A cap draws its rows, seeded, from the whole split instead of taking the first ones, because files may be sorted; the
task's notes say what it left out. Splits and caps have one seed for all trials, so that all trials see the same rows.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from polytask.data import folders
from polytask.data.hub import read_hub, read_hub_rows
from polytask.data.task import Rows, Task
from polytask.errors import DataError, UnknownName
from polytask.suites import glue, squad, text17

Suite = Literal["glue", "text17", "squad"]
SEED = 0
SUITES: tuple[Suite, ...] = ("glue", "text17", "squad")
MISMATCHED = "MNLI-mm"

GLUE_TRAINED = tuple(name for name in glue.GLUE if name not in (MISMATCHED, "AX"))
"""The tasks that train an adapter; MNLI's adapter also answers MNLI-mm and the diagnostics."""

GLUE_COLUMNS = {
    "CoLA": ("sentence", None),
    "SST-2": ("sentence", None),
    "MRPC": ("sentence1", "sentence2"),
    "STS-B": ("sentence1", "sentence2"),
    "QQP": ("question1", "question2"),
    "MNLI-m": ("premise", "hypothesis"),
    "MNLI-mm": ("premise", "hypothesis"),
    "QNLI": ("question", "sentence"),
    "RTE": ("sentence1", "sentence2"),
    "WNLI": ("sentence1", "sentence2"),
}
"""The columns of text and second text in each configuration of ``nyu-mll/glue``; the label's is ``label``."""

TEXT17_HUB = {
    "20_newsgroups": ("SetFit/20_newsgroups", "text", "label_text"),
    "sms_spam": ("ucirvine/sms_spam:plain_text", "sms", "label"),
}
"""Data set and columns of text and label of the tasks that are on the hub. Their splits are not the paper's."""


@dataclass(frozen=True)
class Loaded:
    """A task, whether it is only a sample, and further labelled rows that its adapter is scored on, by name."""

    task: Task
    is_sample: bool = False
    also: Mapping[str, Rows] = field(default_factory=dict)


def names(suite: Suite) -> tuple[str, ...]:
    """The tasks of a suite that are trained, in the paper's order."""
    return {"glue": GLUE_TRAINED, "text17": tuple(text17.TEXT17), "squad": ("squad",)}[suite]


def suite_of(name: str) -> Suite:
    """The suite of a task.

    Raises:
        UnknownName: no suite has a task of this name.
    """
    of = {name: suite for suite in SUITES for name in names(suite)}
    if name not in of:
        raise UnknownName("task of the paper", name, of)
    return of[name]


@dataclass(frozen=True)
class Listed:
    """A task as the paper lists it.

    Attributes:
        name: in ``GLUE`` or ``TEXT17``.
        title: in print.
        counts_as: tasks that share this count as one in means.
        rows: official numbers of training rows and of test rows.
    """

    name: str
    title: str
    counts_as: str
    rows: tuple[int, int]


def listed_tasks(suite: Suite) -> tuple[Listed, ...]:
    """The tasks of GLUE's mean with MNLI-mm, or the 17 text tasks."""
    if suite == "glue":
        known = (task for task in glue.GLUE.values() if task.in_mean)
        return tuple(Listed(task.name, task.name, task.folder or task.name, task.rows[:2]) for task in known)
    return tuple(Listed(t.name, t.title, t.name, (t.rows[0], t.rows[2])) for t in text17.TEXT17.values())


def official_rows(task: str) -> float:
    """The official number of training rows of a task; infinite if it is unknown."""
    known = glue.GLUE.get(task) or text17.TEXT17.get(task)
    return known.rows[0] if known else float("inf")


def title_of(task: str) -> str:
    """The name of a task in print."""
    return text17.TEXT17[task].title if task in text17.TEXT17 else {"squad": "SQuAD"}.get(task, task)


def available(data: str | Path | None) -> set[str]:
    """The tasks that ``read`` finds: in the folder, or without one on the hub."""
    if data is None:
        return {*GLUE_TRAINED, *TEXT17_HUB}
    if not Path(data).is_dir():
        raise DataError("there is no such folder", file=data, fix="Give one that holds glue/, text17/ or squad/")
    root = Path(data)
    tasks = {*glue.available_tasks(root / "glue"), *text17.available_tasks(root / "text17")}
    found = tasks & {*GLUE_TRAINED, *text17.TEXT17}
    return found | ({"squad"} if folders.find_file(root / "squad", "train-v1.1.json") else set())


def read(
    name: str,
    data: str | Path | None = None,
    *,
    max_rows: int | None = None,
    max_validation: int | None = None,
    max_test: int | None = None,
) -> Loaded:
    """Read a task. In GLUE a seeded tenth of train is for validation, and dev is the test.

    Args:
        name: in ``GLUE``, in ``TEXT17``, or ``squad``.
        data: a folder with ``glue/``, ``text17/`` and ``squad/`` in the official layouts; None for the hub.
        max_rows: the most training rows, drawn from all of them; likewise ``max_validation`` and ``max_test``.

    Raises:
        UnknownName: no suite has such a task.
        DataError: it is missing, or cannot be read.
    """
    read_whole = {"glue": _glue, "text17": _text17, "squad": _squad}[suite_of(name)]
    whole = read_whole(name, None if data is None else Path(data), max_rows)
    task, test = whole.task, whole.task.test
    notes = list(task.notes)

    def cut(what: str, rows: Rows, most: int | None) -> Rows:
        if most is None or len(rows) <= most:
            return rows
        notes.append(f"{name}: {most:,} of {len(rows):,} {what} rows, drawn with seed {SEED}")
        return rows.take(drawn(len(rows), most))

    task = replace(
        task,
        train=cut("training", task.train, max_rows),
        validation=cut("validation", task.validation, max_validation),
        test=None if test is None else cut("test", test, max_test),
    )
    also = {other: cut(f"{other} test", rows, max_test) for other, rows in whole.also.items()}
    return replace(whole, task=replace(task, notes=tuple(notes)), also=also)


def drawn(num_rows: int, most: int, seed: int = SEED) -> list[int]:
    """At most ``most`` row numbers in order, drawn by ``Random.random``, which all versions of Python share."""
    draw = random.Random(f"sample {seed}")
    keys = [draw.random() for _ in range(num_rows)]
    return sorted(sorted(range(num_rows), key=keys.__getitem__)[:most])


def _glue(name: str, data: Path | None, max_rows: int | None) -> Loaded:
    row = glue.GLUE[name]
    if data is None:
        return _glue_from_hub(name)
    folder = data / "glue"
    place = folders.find_folder(row.folder or row.name, folder)
    also = {}
    if name == "MNLI-m" and place is not None and folders.find_file(place.folder, glue.GLUE[MISMATCHED].dev):
        mismatched = glue.read_glue(MISMATCHED, folder, seed=SEED).test
        assert mismatched is not None, "GLUE's dev is the test"
        also[MISMATCHED] = mismatched
    task = glue.read_glue(name, folder, seed=SEED)
    return Loaded(task, place is not None and place.is_sample, also)


def _glue_from_hub(name: str) -> Loaded:
    row = glue.GLUE[name]
    text, pair = GLUE_COLUMNS[name]
    columns = {"text": text, "text_pair": pair, "label": "label", "kind": row.kind, "labels": row.labels}

    def rows(split: str) -> Rows:
        return read_hub_rows(f"{glue.HUB}:{row.config}", split, **columns)  # type: ignore[arg-type]

    train, validation = glue.hold_out(rows("train"), SEED)
    is_mnli = name == "MNLI-m"
    test = rows("validation_matched" if is_mnli else "validation")
    also = {MISMATCHED: rows("validation_mismatched")} if is_mnli else {}
    return Loaded(Task(name, row.kind, row.labels, row.metric, train, validation, test), also=also)


def _text17(name: str, data: Path | None, max_rows: int | None) -> Loaded:
    if data is not None:
        place = folders.find_folder(name, data / "text17")
        return Loaded(text17.read_text17(name, data / "text17"), place is not None and place.is_sample)
    if name not in TEXT17_HUB:
        raise _needs_a_folder(name)
    spec, text, label = TEXT17_HUB[name]
    task = read_hub(spec, name, text=text, label=label, metric="accuracy", drop_empty=True, seed=SEED)
    if task.test is None:
        train, test = glue.hold_out(task.train, SEED)
        task = replace(task, train=train, test=test)
    note = f"{name}: read from {spec}, whose splits are not the paper's"
    return Loaded(replace(task, notes=(*task.notes, note)))


def _squad(name: str, data: Path | None, max_rows: int | None) -> Loaded:
    if data is None:
        raise _needs_a_folder(name)
    return Loaded(squad.squad_task(data / "squad", limit=max_rows, seed=SEED))


def _needs_a_folder(name: str) -> DataError:
    known = ", ".join((*GLUE_TRAINED, *TEXT17_HUB))
    return DataError(f"{name} is not read from the hub", fix=f"Give --data DIR. The hub has: {known}")
