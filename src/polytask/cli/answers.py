"""``polytask eval`` and ``polytask predict``: adapters of a store answer."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from os.path import isfile
from typing import TYPE_CHECKING, Any

from polytask.cli import result_tables, wording
from polytask.cli.input_rows import columns_of
from polytask.cli.options import emit, working
from polytask.cli.output import check_folder, check_output
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

SHOWN_ROWS, MOST_NAMED = 20, 5


def file_given(
    file: str,
    output: str | None,
    entries: Mapping[str, Entry],
    columns: Mapping[str, str | None],
    *,
    drop_empty: bool,
    encoding: str | None,
) -> FileRows:
    """The rows of a file to be answered, if what is to be written can be."""
    from polytask.data.read import read_rows, table_of

    kinds: dict[str, Kind] = {reference: entry.header.head.kind for reference, entry in entries.items()}
    kind: Kind | None = "span" if "span" in kinds.values() else None
    table = table_of(file, kind, labelled=False, encoding=encoding)
    chosen = columns_of(list(entries.values()), table, **columns)
    source = read_rows(table, **chosen, kind=kind, drop_empty=drop_empty, keep_empty=True)
    check_output(file, output, source, kinds)
    return source


def emit_answers(answers: Mapping[str, Sequence[Prediction]], num_rows: int, top_k: int | None = None) -> None:
    """One line of JSON for each row and task, with the number of the row, counted from 1."""
    for row in range(num_rows):
        for column in answers.values():
            emit({"row": row + 1, **as_json_object(column[row], top_k)})


def show_answers(
    out: Console, asked: Rows, answers: Mapping[str, Sequence[Prediction]], top_k: int | None = None
) -> None:
    """A table of all rows; on a terminal of the first ones."""
    num_shown = min(len(asked), SHOWN_ROWS) if out.is_terminal else len(asked)
    pairs = asked.pairs and asked.pairs[:num_shown]
    out.print(result_tables.answers(asked.texts[:num_shown], answers, pairs, top_k))
    if num_shown < len(asked):
        out.print(f"… and {wording.counted(len(asked) - num_shown, 'more row')}. Write them all with --output FILE")


def places(source: FileRows | None, num_rows: int) -> Callable[[int], str]:
    """Where a row stands: ``in.csv:7``, or ``text 2 of 3`` of the command line."""
    if source is None:
        return lambda row: f"text {row + 1} of {num_rows}"
    table = source.table
    return lambda row: f"{table.file}:{table.lines[row]}"


def check_drawable(file: str | None, kind: str) -> None:
    """Refuse, before any work is done, a drawing that cannot be made."""
    if file is None:
        return
    if kind != "classification":
        raise DataError(f"a {kind} task has no confusion matrix", fix="Leave out --confusion")
    from polytask.paper.figures import figure

    check_folder(file)
    figure(file, 1, 1)


def answered(frozen: Backbone, adapters: Store, entry: Entry, rows: Rows) -> list[Target]:
    """What an adapter answers, in the form that targets have."""
    from polytask.inference.predict import MultiTask

    with working(f"answering {wording.counted(len(rows), 'text')}"):
        predictions = MultiTask(frozen, adapters).predict(texts_of(rows), str(entry), abstain=False)
    return [target_of(prediction, entry.labels) for prediction in predictions]


def check_taken(entries: Mapping[str, Entry], texts: Sequence[Any]) -> None:
    """Refuse, before anything is loaded, texts that a task does not take."""
    from polytask.inference.inputs import check_inputs

    takes = {reference: entry.header.takes for reference, entry in entries.items()}
    known = {takes[reference] == "single" for reference in takes if takes[reference] is not None}
    if len(known) > 1:
        single = ", ".join(reference for reference, of in takes.items() if of == "single")
        paired = ", ".join(reference for reference, of in takes.items() if of not in (None, "single"))
        raise DataError(f"{single} takes single texts and {paired} takes pairs", fix="Ask them separately")
    for reference, of in takes.items():
        check_inputs(texts, [reference] * len(texts), [reference] * len(texts), [of] * len(texts))


def tasks_asked(given: Sequence[str] | None, adapters: Store) -> list[str]:
    """The tasks named, each once."""
    if not given:
        there = ", ".join(adapters.tasks()) or "none yet; train one with polytask train"
        raise PolytaskError(f"no task is named. Name one with --task; the store has {there}")
    return list(dict.fromkeys(given))


def rows_given(
    texts: Sequence[str] | None, pair: Sequence[str] | None, about_a_file: Sequence[str | None], on_error: str
) -> Rows:
    """The texts of the command line. Some may be empty, as rows of a file may; all of them only with ``null``."""
    from polytask.data.task import Rows
    from polytask.inference.inputs import check_texts, problem_of

    if any(about_a_file):
        raise DataError("--output, --text, --text-pair and --encoding are about a file", fix="Name it with --file FILE")
    if not texts:
        raise DataError("there is nothing to answer", fix="Give texts, or a file with --file FILE")
    if pair and len(pair) != len(texts):
        given = f"{wording.counted(len(texts), 'text')} and {wording.counted(len(pair), 'second text')}"
        raise DataError(given, fix="Give one --pair for each text")
    rows = Rows(texts, pair or None)
    if on_error == "fail" and all(map(problem_of, texts_of(rows))):
        check_texts(texts_of(rows))
    if len(texts) == 1 and isfile(texts[0]):
        again = f"polytask predict --file {shlex.quote(texts[0])}"
        raise DataError(f"{texts[0]!r} is a file, not a text", fix=f"To answer its rows: {again}")
    return rows


def texts_of(rows: Rows) -> list[Any]:
    """Texts, or pairs of texts, as ``MultiTask.predict`` takes them."""
    return list(rows.texts) if rows.pairs is None else list(zip(rows.texts, rows.pairs))


def target_of(prediction: Prediction, labels: Sequence[str]) -> Target:
    """A prediction in the form that targets have."""
    if prediction.answer is not None:
        return (Answer(prediction.answer, prediction.start or 0),)
    if prediction.score is not None:
        return prediction.score
    if prediction.labels is not None:
        return tuple(labels.index(label) for label in prediction.labels)
    return labels.index(prediction.label or "")
