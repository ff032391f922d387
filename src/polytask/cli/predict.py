"""``polytask predict``: answer texts with adapters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from polytask.cli import console, options, wording
from polytask.cli.answers import (
    check_inputs_of,
    print_answers_json,
    row_names,
    rows_from_arguments,
    rows_from_file,
    show_answers,
    tasks_from,
    texts_of,
)
from polytask.cli.options import USER_ERROR, app, error_exit, examples, load_backbone, spinner
from polytask.cli.output import write
from polytask.errors import DataError, UnknownName

if TYPE_CHECKING:
    from polytask.inference.prediction import Prediction

MAX_NAMED = 5
"""Rows without an answer that are named."""


@app.command(
    epilog=examples(
        'polytask predict --task sentiment --task spam "WIN cash now" "see you at 5"',
        "polytask predict --task sentiment --file in.csv --output out.csv",
        'polytask predict --task qa "Who led them?" --pair "Rollo led them, a Viking."',
    )
)
def predict(
    texts: Annotated[list[str] | None, typer.Argument(help="Texts to answer.", show_default=False)] = None,
    task: Annotated[list[str] | None, typer.Option(help="One or more: --task sentiment --task spam@2.")] = None,
    pair: Annotated[list[str] | None, typer.Option(help="The second text of each text, in the same order.")] = None,
    file: Annotated[str | None, typer.Option(metavar="FILE", help="Answer the rows of this file instead.")] = None,
    output: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write the file's columns and, per task, TASK, TASK_prob, ….")
    ] = None,
    text: options.TextColumn = None,
    text_pair: options.PairColumn = None,
    drop_empty: options.DropEmpty = False,
    encoding: options.Encoding = None,
    on_error: Annotated[
        str,
        typer.Option(
            "--on-error",
            metavar="fail|null",
            help="Rows without a text get an empty answer. The exit code is then 2 with fail, 0 with null.",
        ),
    ] = "fail",
    store: options.StoreFolder = "adapters",
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="Ask a server instead; its key is in POLYTASK_KEY.")
    ] = None,
    backbone: options.OfBackbone = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Answer texts with the adapters of one or more tasks on one backbone."""
    from polytask.adapters.store import Store
    from polytask.inference.predict import MultiTask

    if url is not None:
        from polytask.cli.remote import predict_at

        predict_at(url, texts, task, pair, [file, output, text, text_pair, encoding], as_json=as_json)
        return
    if on_error not in ("fail", "null"):
        raise UnknownName("value of --on-error", on_error, ("fail", "null"))
    adapters = Store(store)
    tasks = tasks_from(task, adapters)
    entries = {reference: adapters.entry(reference) for reference in tasks}
    source = None
    if file is None:
        rows = rows_from_arguments(texts, pair, [output, text, text_pair, encoding], on_error)
    else:
        if texts or pair:
            raise DataError("texts and a file are given", fix="Give one of them")
        columns = {"text": text, "text_pair": text_pair}
        source = rows_from_file(file, output, entries, columns, drop_empty=drop_empty, encoding=encoding)
        rows = source.rows
    check_inputs_of(entries, texts_of(rows))
    frozen = load_backbone(backbone or entries[tasks[0]].header.backbone.name, device, dtype)
    together = MultiTask(frozen, adapters)
    with spinner(f"answering {wording.counted(len(rows), 'text')}"):
        given = texts_of(rows)
        answers = {reference: together.predict(given, reference, on_error="null") for reference in tasks}
    missing = missing_texts(row_names(source, len(rows)), next(iter(answers.values())))
    console.notes(console.terminal(stderr=True), missing)
    if source is not None and output is not None:
        write(output, source, answers, entries)
    if as_json:
        print_answers_json(answers, len(rows))
    elif output is not None:
        console.terminal().print(f"{wording.counted(len(rows), 'row')} written to {output}")
    else:
        show_answers(console.terminal(), rows, answers)
    end_with(missing, on_error)


def missing_texts(name: Callable[[int], str], predictions: Sequence[Prediction]) -> list[str]:
    """A line for each of the first rows that have no answer, with the reason."""
    lines = [f"{name(row)}: {own.error}" for row, own in enumerate(predictions) if own.error]
    more = len(lines) - MAX_NAMED
    return [
        *lines[:MAX_NAMED],
        *([f"… and {wording.counted(more, 'more row')} without an answer"] if more > 0 else []),
    ]


def end_with(missing: Sequence[str], on_error: str) -> None:
    """Exit with 2 if rows have no answer, unless ``on_error`` is ``null``."""
    if missing and on_error == "fail":
        raise error_exit("some rows have no answer. To allow that, pass --on-error null", USER_ERROR)
