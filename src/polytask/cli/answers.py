"""Reads the inputs of ``polytask predict`` and ``eval``, asks adapters, and prints their answers."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from os.path import isfile
from typing import TYPE_CHECKING, Any

from polytask.cli import result_tables, wording
from polytask.cli.input_rows import columns_of
from polytask.cli.options import print_json, spinner
from polytask.cli.output import check_output
from polytask.cli.top_k import as_json_object
from polytask.data.task import Answer
from polytask.errors import DataError, PolytaskError

if TYPE_CHECKING:
    from rich.console import Console

    from polytask.adapters.store import Entry, Store
    from polytask.backbones.backbone import Backbone
    from polytask.data.read import FileRows
    from polytask.data.task import Kind, Rows, Target
    from polytask.inference.prediction import Prediction

MAX_NAMED = 5
"""The most rows without an answer that are listed."""
SHOWN_ROWS = 20
"""The most rows shown on a terminal."""
MANY_ROWS = 1000
"""With at least this many rows, a table in a pipe has no layout."""


def tasks_from(given: Sequence[str] | None, adapters: Store) -> list[str]:
    """The given tasks without duplicates.

    Raises:
        PolytaskError: no task is given.
    """
    if not given:
        there = ", ".join(adapters.tasks()) or "none yet; train one with polytask train"
        raise PolytaskError(f"no task is named. Name one with --task; the store has {there}")
    return list(dict.fromkeys(given))


def rows_from_arguments(
    texts: Sequence[str] | None, pair: Sequence[str] | None, file_options: Sequence[str | None], on_error: str
) -> Rows:
    """The texts of the command line.

    Args:
        texts: the texts.
        pair: the second text of each text, if there are any.
        file_options: the values of options that are for files; all must be missing.
        on_error: with ``fail`` at least one text must not be empty, with ``null`` all may be empty.

    Raises:
        DataError: there are no texts, not one pair for each text, or an option for files.
    """
    from polytask.data.task import Rows
    from polytask.inference.inputs import check_texts, problem_of

    if any(file_options):
        raise DataError("--output, --text, --text-pair and --encoding are for a file", fix="Name it with --file FILE")
    if not texts:
        raise DataError("there are no texts", fix="Give texts, or a file with --file FILE")
    if pair and len(pair) != len(texts):
        given = f"{wording.counted(len(texts), 'text')} and {wording.counted(len(pair), 'second text')}"
        raise DataError(given, fix="Give one --pair for each text")
    rows = Rows(texts, pair or None)
    if on_error == "fail" and all(map(problem_of, texts_of(rows))):
        check_texts(texts_of(rows))
    if len(texts) == 1 and isfile(texts[0]):
        command = f"polytask predict --file {shlex.quote(texts[0])}"
        raise DataError(f"{texts[0]!r} is a file, not a text", fix=f"To answer its rows: {command}")
    return rows


def rows_from_file(
    file: str,
    output: str | None,
    entries: Mapping[str, Entry],
    columns: Mapping[str, str | None],
    *,
    drop_empty: bool,
    encoding: str | None,
    abstaining: Collection[str] = (),
) -> FileRows:
    """The rows of a file that adapters are to answer.

    Raises:
        DataError: the file cannot be read, or its answers cannot be written to ``output``.
    """
    from polytask.data.read import read_rows, table_of

    kinds: dict[str, Kind] = {reference: entry.header.head.kind for reference, entry in entries.items()}
    kind: Kind | None = "span" if "span" in kinds.values() else None
    table = table_of(file, kind, labelled=False, encoding=encoding)
    chosen = columns_of(list(entries.values()), table, **columns)
    source = read_rows(table, **chosen, kind=kind, drop_empty=drop_empty, keep_empty=True)
    check_output(file, output, source, kinds, abstaining)
    return source


def check_inputs_of(entries: Mapping[str, Entry], texts: Sequence[Any]) -> None:
    """Refuse texts that do not suit a task, before the backbone is loaded.

    Raises:
        DataError: single texts for a task of pairs, the reverse, or tasks of both kinds.
    """
    from polytask.inference.inputs import check_inputs

    takes = {reference: entry.header.takes for reference, entry in entries.items()}
    known = {takes[reference] == "single" for reference in takes if takes[reference] is not None}
    if len(known) > 1:
        single = ", ".join(reference for reference, kind in takes.items() if kind == "single")
        paired = ", ".join(reference for reference, kind in takes.items() if kind not in (None, "single"))
        raise DataError(f"{single} takes single texts and {paired} takes pairs", fix="Ask them separately")
    for reference, kind in takes.items():
        check_inputs(texts, [reference] * len(texts), [reference] * len(texts), [kind] * len(texts))


def texts_of(rows: Rows) -> list[Any]:
    """Texts, or pairs of texts, as ``MultiTask.predict`` takes them."""
    return list(rows.texts) if rows.pairs is None else list(zip(rows.texts, rows.pairs))


def predictions_of(backbone: Backbone, adapters: Store, entry: Entry, rows: Rows) -> list[Prediction]:
    """The answers of an adapter, with the probabilities by which it chooses a label, not calibrated."""
    from polytask.inference.predict import MultiTask

    with spinner(f"answering {wording.counted(len(rows), 'text')}"):
        return MultiTask(backbone, adapters).predict(texts_of(rows), str(entry), calibrated=False)


def target_of(prediction: Prediction, labels: Sequence[str]) -> Target:
    """A prediction as a target: of one without a label, the likeliest."""
    if prediction.answer is not None:
        return (Answer(prediction.answer, prediction.start or 0),)
    if prediction.score is not None:
        return prediction.score
    if prediction.labels is not None:
        return tuple(labels.index(label) for label in prediction.labels)
    return labels.index(prediction.likeliest or "")


def row_names(source: FileRows | None, num_rows: int) -> Callable[[int], str]:
    """A function that names a row: ``in.csv:7``, or ``text 2 of 3`` for texts of the command line."""
    if source is None:
        return lambda row: f"text {row + 1} of {num_rows}"
    table = source.table
    return lambda row: f"{table.file}:{table.lines[row]}"


def print_answers_json(answers: Mapping[str, Sequence[Prediction]], num_rows: int, top_k: int | None = None) -> None:
    """Print one line of JSON for each row and task; rows are numbered from 1."""
    for row in range(num_rows):
        for column in answers.values():
            print_json({"row": row + 1, **as_json_object(column[row], top_k)})


def show_answers(
    out: Console, rows: Rows, answers: Mapping[str, Sequence[Prediction]], top_k: int | None = None
) -> None:
    """Print a table of all rows; on a terminal, of the first ones."""
    num_shown = min(len(rows), SHOWN_ROWS) if out.is_terminal else len(rows)
    pairs = rows.pairs and rows.pairs[:num_shown]
    if num_shown >= MANY_ROWS:
        out.file.writelines(f"{line}\n" for line in result_tables.plain_answers(rows.texts, answers, pairs, top_k))
        return
    out.print(result_tables.answers(rows.texts[:num_shown], answers, pairs, top_k))
    if num_shown < len(rows):
        out.print(f"… and {wording.counted(len(rows) - num_shown, 'more row')}. Write them all with --output FILE")
