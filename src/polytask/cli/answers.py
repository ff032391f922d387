"""Gets answers from adapters for ``polytask predict`` and ``eval``, and prints them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from polytask.cli import result_tables, wording
from polytask.cli.input_rows import texts_of
from polytask.cli.options import print_json, spinner
from polytask.cli.top_k import as_json_object
from polytask.data.task import Answer
from polytask.errors import PolytaskError

if TYPE_CHECKING:
    from rich.console import Console

    from polytask.adapters.store import Entry, Store
    from polytask.backbones.backbone import Backbone
    from polytask.data.read import FileRows
    from polytask.data.task import Rows, Target
    from polytask.inference.prediction import Prediction

MAX_NAMED = 5
"""The most rows without an answer that are listed."""
SHOWN_ROWS = 20
"""The most rows shown on a terminal."""
MANY_ROWS = 1000
"""From this many rows on, a table in a pipe is printed as plain lines."""


def tasks_from(given: Sequence[str] | None, adapters: Store) -> list[str]:
    """The given tasks without duplicates.

    Raises:
        PolytaskError: no task is given.
    """
    if not given:
        there = ", ".join(adapters.tasks()) or "none yet; train one with polytask train"
        raise PolytaskError(f"no task is named. Name one with --task; the store has {there}")
    return list(dict.fromkeys(given))


def predictions_of(backbone: Backbone, adapters: Store, entry: Entry, rows: Rows) -> list[Prediction]:
    """The answers of an adapter, with uncalibrated probabilities, because labels are chosen by these."""
    from polytask.inference.predict import MultiTask

    with spinner(f"answering {wording.counted(len(rows), 'text')}"):
        return MultiTask(backbone, adapters).predict(texts_of(rows), str(entry), calibrated=False)


def target_of(prediction: Prediction, labels: Sequence[str]) -> Target:
    """Convert a prediction to a target; one without a label becomes the likeliest label."""
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
    """Print a table of all rows, or on a terminal of the first ones."""
    num_shown = min(len(rows), SHOWN_ROWS) if out.is_terminal else len(rows)
    pairs = rows.pairs and rows.pairs[:num_shown]
    if num_shown >= MANY_ROWS:
        out.file.writelines(f"{line}\n" for line in result_tables.plain_answer_lines(rows.texts, answers, pairs, top_k))
        return
    out.print(result_tables.answers_table(rows.texts[:num_shown], answers, pairs, top_k))
    if num_shown < len(rows):
        out.print(f"… and {wording.counted(len(rows) - num_shown, 'more row')}. Write them all with --output FILE")
